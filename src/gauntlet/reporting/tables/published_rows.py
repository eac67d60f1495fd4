"""Published numbers next to the measured ones: means over seeds, their intervals, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import (
    Evaluations,
    certified_accuracies,
    headline_budgets,
    norm_grids,
    open_evaluations,
)
from gauntlet.reporting.aggregation.budget_grids import attack_grid, stated_budget
from gauntlet.reporting.aggregation.definitions import WORST_CASE
from gauntlet.reporting.aggregation.headline import headline_radii
from gauntlet.reporting.formatting import accuracy_flags_of
from gauntlet.reporting.stats import prediction_interval
from gauntlet.reporting.tables.numbers import LOW_CONFIDENCE, clean_numbers, low_confidence_numbers, repeated_numbers
from gauntlet.reporting.tables.published_histories import Histories, history_numbers

PUBLISHED_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("reference", pa.string()),
        ("variant", pa.string()),
        ("quantity", pa.string()),
        ("norm", pa.string()),
        ("budget", pa.float64()),
        ("unit", pa.string()),
        ("published", pa.float64()),
        ("published_std", pa.float64()),
        ("published_seeds", pa.int64()),
        ("note", pa.string()),
        ("measured", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("interval", pa.string()),
        ("expected_low", pa.float64()),
        ("expected_high", pa.float64()),
        ("training_std", pa.float64()),
        ("seeds", pa.int64()),
        ("samples", pa.int64()),
        ("errors", pa.int64()),
        ("missing", pa.int64()),
        ("flags", pa.string()),
        ("difference", pa.float64()),
        ("verdict", pa.string()),
    ]
)
"""One row per variant and published quantity, in the order of the configuration.

`quantity` is as in the configuration, `budget` in pixel units. Published and measured values are in `unit`: "%" for
accuracies, "" for others. `measured` is the mean over seeds; `low` and `high` bound it at 95 %, over training seeds
(`interval` "seeds": Student's t) or, with one seed or equal ones, over samples ("samples": Wilson; null for what is no
accuracy).
`expected_*` hold the mean of `published_seeds` further trainings, one if that is null, with 95 %; null with one seed,
and where all seeds are equal, such as kept epochs, which are whole numbers: their spread is unknown, not zero.
`samples` is the number pooled over seeds. For a column of the history, `missing` counts the seeds without a value, such
as trainings that stopped before the stated epoch. `verdict` says whether the published value is `inside` or `outside`
what is expected, or `one seed`, `equal seeds` or `missing`; `difference` is the measured value less the published one.
The other columns are as in SUMMARY_SCHEMA.
"""

PERCENT = "%"
INSIDE, OUTSIDE, ONE_SEED, EQUAL_SEEDS, MISSING = "inside", "outside", "one seed", "equal seeds", "missing"

_DEFINITIONS = {"low_confidence": f"share of its images with a confidence below {LOW_CONFIDENCE:g}"}
"""Definitions of kinds that the name of their quantity does not say, for the notes."""


@dataclass(frozen=True)
class PublishedEntry:
    """A published number and what it is compared with.

    `kind` is "clean", "history", "attack", "low_confidence", "worst_case" or "certificate", `name` the column, attack,
    norm of the worst case or certificate, `budget` the budget or radius in pixel units, None for the headline's.
    `value` is in percent if `is_share`, and None where nothing is published. `epoch` is that of a column, None for the
    kept one.
    """

    variant: str
    quantity: str
    kind: str
    name: str
    budget: float | None
    is_share: bool
    value: float | None
    std: float | None = None
    seeds: int | None = None
    note: str | None = None
    epoch: int | None = None


def measure_published(
    reference: str,
    entries: Sequence[PublishedEntry],
    *,
    evaluations: Path,
    certificates: Path,
    summary: pa.Table,
    histories: Mapping[str, Histories],
) -> pa.Table:
    """Compare published numbers with the results of an experiment: rows of PUBLISHED_SCHEMA.

    `summary` is computed from `evaluations`; `histories` has the variants with entries of kind "history".

    Raises InputError when a file is missing or damaged, and for an entry whose budget the headline leaves open.
    """
    with open_evaluations(evaluations) as opened:
        grids = norm_grids(opened)
        headline = headline_budgets(opened.design, grids)
        summarized = summary.to_pylist()
        stated = _radii(opened, entries)
        certified = certified_accuracies(certificates, radii=stated).to_pylist() if stated else []
        # The radii of the tables: the middle one would be another among the stated ones.
        is_shown = any(entry.kind == "certificate" and entry.budget is None for entry in entries)
        shown = certified_accuracies(certificates, radii=headline).to_pylist() if is_shown else []
        rows = [
            {"experiment": opened.design.experiment, "reference": reference}
            | _row(
                entry,
                _measured(
                    entry, opened, grids, headline, summarized, shown if entry.budget is None else certified, histories
                ),
            )
            for entry in entries
        ]
    return pa.Table.from_pylist(rows, schema=PUBLISHED_SCHEMA)


def stated_epoch(row: Mapping[str, Any]) -> int | None:
    """Return the epoch of a row of PUBLISHED_SCHEMA that is a column of the history at a stated epoch; else None."""
    epoch = str(row["quantity"]).partition("@")[2]
    return int(epoch) if row["budget"] is None and row["norm"] is None and epoch.isdecimal() else None


def _radii(evaluations: Evaluations, entries: Sequence[PublishedEntry]) -> dict[str, list[float]]:
    """Return the stated radii of published certificates by norm."""
    norms = {certificate.name: certificate.norm for certificate in evaluations.design.certificates}
    radii: dict[str, list[float]] = {}
    for entry in entries:
        if entry.kind == "certificate" and entry.budget is not None:
            radii.setdefault(norms[entry.name], []).append(entry.budget)
    return radii


def _measured(
    entry: PublishedEntry,
    evaluations: Evaluations,
    grids: Mapping[str, Sequence[float]],
    headline: Mapping[str, Sequence[float]],
    summary: Sequence[Mapping[str, Any]],
    certified: Sequence[Mapping[str, Any]],
    histories: Mapping[str, Histories],
) -> dict[str, Any]:
    """Return an accuracy as a share, or another quantity, with intervals and counts as in SUMMARY_SCHEMA."""
    flags = accuracy_flags_of(summary).get(entry.variant, "")
    if entry.kind == "history":
        return history_numbers(histories[entry.variant], entry.name, entry.epoch, is_share=entry.is_share)
    if entry.kind == "clean":
        return clean_numbers(evaluations, entry.variant) | {"flags": flags}
    if entry.kind == "low_confidence":
        return low_confidence_numbers(evaluations, entry.variant, entry.name) | {"flags": flags}
    design = evaluations.design
    if entry.kind == "certificate":
        rows = [row for row in certified if (row["variant"], row["certificate"]) == (entry.variant, entry.name)]
        norm = next(item.norm for item in design.certificates if item.name == entry.name)
        default = headline_radii(norm, headline, [row["radius"] for row in rows])
        radius = _budget(entry, default)
        row = next((row for row in rows if row["radius"] == radius), {})
        return {**row, "accuracy": row.get("certified_accuracy"), "norm": norm, "budget": radius, "flags": flags}
    if entry.kind == "worst_case":
        row = next(row for row in summary if _is_of(row, entry) and row["epsilon"] == entry.budget)
        return {**row, "accuracy": row["robust_accuracy"], "budget": entry.budget}
    attack = next(item for item in design.attacks if item.name == entry.name)
    run_at = [value for value in headline[attack.norm] if not attack.epsilons or value in attack_grid(attack, grids)]
    budget = _budget(entry, run_at)
    budget = stated_budget(budget, grids[attack.norm]) if attack.epsilons else budget
    failed = next((row["flags"] for row in summary if _is_of(row, entry)), None)
    numbers = repeated_numbers(evaluations, entry.variant, entry.name, budget)
    # Repetitions with other seeds attack the same samples.
    samples = numbers["samples"] // numbers.get("attack_seeds", 1)
    return {**numbers, "norm": attack.norm, "budget": budget, "samples": samples, "flags": failed}


def _is_of(row: Mapping[str, Any], entry: PublishedEntry) -> bool:
    name = f"{WORST_CASE}{entry.name}" if entry.kind == "worst_case" else entry.name
    return (row["variant"], row["attack"]) == (entry.variant, name)


def _budget(entry: PublishedEntry, headline: Sequence[float]) -> float:
    """Return the budget of an entry: its own, or the only one of the headline."""
    if entry.budget is not None:
        return entry.budget
    if len(headline) != 1:
        problem = f"{entry.name} has {'several' if headline else 'no'} headline budgets"
        where = f"published.numbers.{entry.variant}.{entry.quantity}"
        raise InputError(problem, where=where, remedy=f"write {entry.name}@BUDGET")
    return headline[0]


def _row(entry: PublishedEntry, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an entry, its numbers in its unit."""
    factor = 100 if entry.is_share else 1
    over_seeds = numbers.get("t_low") is not None
    kind = "t" if over_seeds else "wilson"
    measured, low, high = (numbers.get(name) for name in ("accuracy", f"{kind}_low", f"{kind}_high"))
    std = numbers.get("training_std")
    expected = _expected(numbers, entry.seeds or 1) if over_seeds else (None, None)
    in_unit = {"measured": measured, "low": low, "high": high, "training_std": std}
    in_unit |= dict(zip(("expected_low", "expected_high"), expected, strict=True))
    scaled = {name: None if value is None else factor * value for name, value in in_unit.items()}
    return {
        "variant": entry.variant,
        "quantity": entry.quantity,
        "norm": numbers.get("norm"),
        "budget": numbers.get("budget"),
        "unit": PERCENT if entry.is_share else "",
        "published": entry.value,
        "published_std": entry.std,
        "published_seeds": entry.seeds,
        "note": "; ".join(filter(None, (entry.note, _DEFINITIONS.get(entry.kind)))) or None,
        **scaled,
        "interval": None if low is None else "seeds" if over_seeds else "samples",
        **{name: numbers.get(name) or 0 for name in ("seeds", "samples", "errors", "missing")},
        "flags": numbers.get("flags"),
        "difference": None if measured is None or entry.value is None else factor * measured - entry.value,
        "verdict": _verdict(entry.value, scaled),
    }


def _expected(numbers: Mapping[str, Any], published_seeds: int) -> tuple[float, float]:
    # The published value is itself a draw: even the right mean, known exactly, differs from it.
    ends = prediction_interval(numbers["t_low"], numbers["t_high"], values=numbers["seeds"], future=published_seeds)
    return float(ends[0]), float(ends[1])


def _verdict(published: float | None, numbers: Mapping[str, float | None]) -> str | None:
    low, high = numbers["expected_low"], numbers["expected_high"]
    if published is None:
        return None
    if numbers["measured"] is None:
        return MISSING
    if low is None or high is None:
        return ONE_SEED if numbers["training_std"] is None else EQUAL_SEEDS
    return INSIDE if low <= published <= high else OUTSIDE
