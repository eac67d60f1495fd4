"""Tables of results that took hours, kept in the repository: what was measured, and how (docs/tables.md).

`python -m gauntlet.reporting.kept_results results/NAME MACHINE COMMAND` prints the table of an experiment, a row per
published number and per accuracy that was measured.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_columns, read_table
from gauntlet.reporting.aggregation import ExperimentDesign, open_evaluations, summarize_diagnosed
from gauntlet.reporting.aggregation.definitions import is_worst_case
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.tables.published_files import csv_rows
from gauntlet.reporting.tables.published_rows import PUBLISHED_SCHEMA, PublishedEntry, measure_published, stated_epoch

ORIGIN = ("commit", "date", "machine", "training_seeds", "command")
"""Columns of a kept table in addition to those of PUBLISHED_SCHEMA; `training_seeds` lists the seeds."""

REASON = "reason"
"""Optional column: the reason of a difference from the published value."""

_SHORT_COMMIT = 7

_WORST_CASE = "worst case"
"""Quantity of a worst case, before its budget; no attack has a space in its name."""


def keep_results(folder: Path, *, machine: str, command: str) -> list[dict[str, Any]]:
    """Return the rows of a kept table, from the folder of an experiment's results.

    First those of its published numbers, if it has any, then clean accuracies, accuracies under every attack and worst
    case at every budget, shares of images of noise with low confidence, and certified accuracies at the same radii.
    `machine` and `command` describe the run.

    Raises InputError when a file is missing or damaged.
    """
    published = folder / "published.parquet"
    rows = read_table(published).to_pylist() if published.is_file() else []
    known = {_key(row) for row in rows}
    rows += [row for row in _unpublished(folder).to_pylist() if _key(row) not in known]
    origins = read_table(folder / "origins.parquet").to_pylist()
    epochs = _epochs(folder / "evaluations.parquet") if any(stated_epoch(row) is not None for row in rows) else {}
    with open_evaluations(folder / "evaluations.parquet") as opened:
        design = opened.design
    return [
        row | _origin(row, _measured_by(row, design), origins, epochs, machine, command) | {REASON: ""} for row in rows
    ]


def _epochs(evaluations: Path) -> dict[tuple[str, int], list[int]]:
    """Return the epochs of every training history, by variant and seed."""
    histories = find_inputs(evaluations).histories
    return {(file.variant, file.seed): read_columns(file.path, ["epoch"])["epoch"].to_pylist() for file in histories}


def _key(row: Mapping[str, Any]) -> tuple[str, str, float | None]:
    return row["variant"], row["quantity"].partition("@")[0], row["budget"]


def _unpublished(folder: Path) -> pa.Table:
    """Measure everything as if it were published without a value: rows of PUBLISHED_SCHEMA."""
    evaluations, certificates = folder / "evaluations.parquet", folder / "certificates.parquet"
    diagnostics = folder / "diagnostics.parquet"
    summary = summarize_diagnosed(evaluations, read_table(diagnostics) if diagnostics.is_file() else None)
    return measure_published(
        "",
        list(_entries(evaluations, certificates, summary)),
        evaluations=evaluations,
        certificates=certificates,
        summary=summary,
        histories={},
    )


def _entries(evaluations: Path, certificates: Path, summary: pa.Table) -> Iterator[PublishedEntry]:
    """Yield what a folder has: clean accuracies, attacks and worst cases by budget, certificates by radius."""
    with open_evaluations(evaluations) as opened:
        design = opened.design
    for variant in design.variants:
        yield PublishedEntry(variant, "clean", "clean", "clean", None, is_share=True, value=None)
    budgets: dict[str, set[float]] = {}
    # Noise in place of images has no accuracy, and repetitions with other seeds are in the mean of the first.
    left_out = {
        attack.name
        for attack in design.attacks
        if not attack.is_perturbation or attack.repeats not in (None, attack.name)
    }
    for row in summary.to_pylist():
        if row["attack"] in left_out:
            continue
        budgets.setdefault(row["norm"], set()).add(row["epsilon"])
        worst = is_worst_case(row["attack"])
        kind, name = ("worst_case", row["norm"]) if worst else ("attack", row["attack"])
        shown = _WORST_CASE if worst else name
        quantity = f"{shown}@{row['epsilon']:.4g}"
        yield PublishedEntry(row["variant"], quantity, kind, name, row["epsilon"], is_share=True, value=None)
    for attack in design.attacks:
        if not attack.is_perturbation and attack.repeats in (None, attack.name):
            for variant in design.variants:
                if variant not in attack.without:
                    yield PublishedEntry(variant, attack.name, "low_confidence", attack.name, None, True, None)
    for certificate in design.certificates:
        radii = sorted(budgets.get(certificate.norm, ()))
        for variant in certificate.variants:
            for radius in (0.0, *radii):
                quantity = f"{certificate.name}@{radius:.4g}"
                yield PublishedEntry(variant, quantity, "certificate", certificate.name, radius, True, None)


def _measured_by(row: Mapping[str, Any], design: ExperimentDesign) -> set[str]:
    """Return the attacks or the certificate that a row was measured with; the name of another quantity as it is."""
    name = row["quantity"].partition("@")[0]
    if name == _WORST_CASE:
        return {attack.name for attack in design.counted_in(row["norm"])}
    return {attack.name for attack in design.attacks if attack.repeats == name} or {name}


def _origin(
    row: Mapping[str, Any],
    names: Collection[str],
    origins: Sequence[Mapping[str, Any]],
    epochs: Mapping[tuple[str, int], Sequence[int]],
    machine: str,
    command: str,
) -> dict[str, str]:
    """Return the columns ORIGIN: of the models of a row's variant and of its cells called `names`; empty if missing.

    At a stated epoch of the history the models are those that were trained so far, by their `epochs`.
    """
    if row["measured"] is None:
        return dict.fromkeys(ORIGIN, "")
    models = [cell for cell in origins if cell["variant"] == row["variant"] and cell["stage"] == "train"]
    if (epoch := stated_epoch(row)) is not None:
        models = [cell for cell in models if epoch in epochs.get((cell["variant"], cell["seed"]), ())]
    cells = [cell for cell in origins if cell["variant"] == row["variant"] and cell["name"] in names] or models
    made = [*models, *cells]
    commits = dict.fromkeys((cell["commit"] or "unknown")[:_SHORT_COMMIT] for cell in made)
    return {
        "commit": ", ".join(commits),
        "date": max((cell["finished"] or "" for cell in made), default="")[: len("2026-01-31")],
        "machine": machine,
        "training_seeds": " ".join(map(str, sorted({cell["seed"] for cell in cells}))),
        "command": command,
    }


def read_kept(path: Path) -> list[dict[str, Any]]:
    """Read a kept table, with the types of PUBLISHED_SCHEMA; empty fields are None, an absent reason is "".

    Raises InputError for a missing column and for a value of another type.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        if missing := [name for name in (*PUBLISHED_SCHEMA.names, *ORIGIN) if name not in columns]:
            raise InputError(f"there is no column {missing[0]}", where=str(path), remedy="see docs/tables.md")
        return [_typed(row, f"{path}:{number}") for number, row in enumerate(reader, 2)]


def kept_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a kept table."""
    return csv_rows(rows, [*PUBLISHED_SCHEMA.names, *ORIGIN, REASON])


def _typed(row: Mapping[str, str], where: str) -> dict[str, Any]:
    typed: dict[str, Any] = {name: row[name] for name in ORIGIN} | {REASON: row.get(REASON) or ""}
    for field in PUBLISHED_SCHEMA:
        convert = {pa.float64(): float, pa.int64(): int}.get(field.type, str)
        try:
            typed[field.name] = convert(row[field.name]) if row[field.name] else None
        except ValueError as error:
            problem = f"{field.name} is '{row[field.name]}'"
            raise InputError(problem, where=where, remedy="write a number, or leave the field empty") from error
    return typed | {"unit": typed["unit"] or ""}


if __name__ == "__main__":
    results, machine, command = sys.argv[1:]
    sys.stdout.write(kept_text(keep_results(Path(results), machine=machine, command=command)))
