"""The summary as Markdown and CSV, worst cases first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa

from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.aggregation.definitions import is_worst_case, planned_seeds, prefer_worst_cases
from gauntlet.reporting.footnotes import exclusion_note, single_loss_note
from gauntlet.reporting.formatting import (
    Row,
    accuracy_flags_of,
    budget_text,
    clean_marks,
    counts_text,
    escape_markdown,
    masked_variants,
    percent,
    percent_text,
    short_number,
    units_text,
)

_CONSTANTS = {"lipschitz_claimed": "Lipschitz constant claimed", "lipschitz_measured": "measured"}


def csv_table(summary: pa.Table) -> str:
    """Return every row and column of a summary as CSV, worst cases first; unknown values are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, summary.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(summary.to_pylist(), key=lambda row: not is_worst_case(row["attack"])))
    return out.getvalue()


def markdown_table(
    summary: pa.Table,
    *,
    certified: pa.Table | None = None,
    missing: Sequence[object] = (),
    uncounted: Mapping[str, str] = MappingProxyType({}),
    single_losses: Mapping[str, str] | None = None,
) -> str:
    """Return a summary as a Markdown page: worst case per norm, single attacks, certificates, errors, missing cells.

    `certified` holds certified accuracies; `missing` are the cells that were left out, as they print; `uncounted`
    maps the attacks that have no part in a worst case to the reason; `single_losses` maps norms in whose worst case all
    attacks along gradients ascend the same loss to that loss.
    """
    rows, certified_rows = summary.to_pylist(), certified.to_pylist() if certified is not None else []
    experiment = ", ".join(dict.fromkeys(row["experiment"] for row in [*rows, *certified_rows]))
    flags = accuracy_flags_of(rows)
    certified_rows = [row | {"flags": flags.get(row["variant"], "")} for row in certified_rows]
    numbers = [*_accuracies(rows, uncounted, single_losses or {}), *_certified(certified_rows)]
    page = [*(numbers or ["", "Nothing was measured."]), *_notes(rows, missing)]
    return "\n".join([f"# {escape_markdown(experiment)}", *page]) + "\n"


def _accuracies(rows: list[Row], uncounted: Mapping[str, str], single_losses: Mapping[str, str]) -> Iterator[str]:
    if not rows:
        return
    units = units_text(row["norm"] for row in rows)
    counts = counts_text(prefer_worst_cases(row for row in rows if row["seeds"]), ())
    yield ""
    yield (
        f"Robust accuracy in percent: the share of test samples that no attack fooled within ε ({units}); {counts}. "
        "Mean over seeds ± 95 % t-interval over seeds [95 % Wilson interval over samples]."
    )
    planned = planned_seeds(rows)
    for norm in dict.fromkeys(row["norm"] for row in rows):
        title = escape_markdown(NORM_TEXT.get(norm, norm))
        rows_in_norm = [row for row in rows if row["norm"] == norm]
        single = [row for row in rows_in_norm if not is_worst_case(row["attack"])]
        attacks = dict.fromkeys(row["attack"] for row in single if row["attack"] not in uncounted)
        worst = [row for row in rows_in_norm if is_worst_case(row["attack"])]
        if worst:
            yield from ("", f"## {title}: worst case per sample over all attacks")
            yield from ("", f"Attacks: {', '.join(map(escape_markdown, attacks))}.", "")
            yield from _grid(worst, ("variant",), planned, intervals=True)
        if norm in single_losses:
            yield from ("", escape_markdown(single_loss_note(norm, single_losses[norm])))
        yield from ("", f"##{'#' if worst else ''} {title}: single attacks", "")
        yield from _grid(single, ("variant", "attack"), planned, intervals=not worst)
        for attack in dict.fromkeys(row["attack"] for row in single if row["attack"] in uncounted):
            yield from ("", f"{escape_markdown(exclusion_note(attack, uncounted[attack]))}.")


def _certified(rows: list[Row]) -> Iterator[str]:
    """Yield one table per certificate, a line per variant and a column per radius."""
    if not rows:
        return
    yield from ("", "## Certified accuracy", "")
    yield (
        "Percent: the share of all test samples whose correct class is certified against every perturbation smaller "
        f"than the radius ({units_text(row['norm'] for row in rows)}); {counts_text((), rows)}. Mean over seeds ± 95 % "
        "t-interval over seeds."
    )
    for name in dict.fromkeys(row["certificate"] for row in rows):
        certificate_rows = [row for row in rows if row["certificate"] == name]
        norm, certifies = str(certificate_rows[0]["norm"]), str(certificate_rows[0]["certifies"])
        yield from ("", f"### {escape_markdown(NORM_TEXT.get(norm, norm))}: {escape_markdown(str(name))}", "")
        if certifies != "model":
            yield f"Of the {escape_markdown(certifies)} classifier, not of the attacked model."
            yield ""
        yield from _certificate(certificate_rows)


def _certificate(rows: list[Row]) -> Iterator[str]:
    # The radii are those of the norm, up to the largest of any certificate: columns of zeros are left out.
    largest = max((row["radius"] for row in rows if row["certified_accuracy"]), default=0.0)
    radii = sorted({row["radius"] for row in rows if row["radius"] <= largest})
    constants = [name for name in _CONSTANTS if any(row.get(name) is not None for row in rows)]
    columns = ["abstained", *(f"r = {budget_text(radius)}" for radius in radii), "median radius"]
    yield _line(["variant", *columns, *map(_CONSTANTS.__getitem__, constants)])
    yield _line(["---", *["---:"] * (len(columns) + len(constants))])
    for variant in dict.fromkeys(row["variant"] for row in rows):
        by_radius = {row["radius"]: row for row in rows if row["variant"] == variant}
        first, accuracies = by_radius[radii[0]], (percent(by_radius[radius]) for radius in radii)
        shares = (" ".join(filter(None, [one.mean, one.spread])) + one.marks for one in accuracies)
        numbers = (short_number(first[name]) for name in ("median_radius", *constants))
        yield _line([escape_markdown(variant), percent_text(first["abstained"]), *shares, *numbers])


def _grid(rows: list[Row], keys: tuple[str, ...], planned: Mapping[str, int], *, intervals: bool) -> Iterator[str]:
    """Yield one line per key and one column per budget, empty where the attack was not run at a budget."""
    budgets = sorted({row["epsilon"] for row in rows})
    median = ["median distance (fooled)"] if keys == ("variant", "attack") else []
    yield _line([*keys, "clean", *(f"ε = {budget_text(budget)}" for budget in budgets), *median])
    yield _line(["---"] * len(keys) + ["---:"] * (1 + len(budgets) + len(median)))
    for key in dict.fromkeys(tuple(row[column] for column in keys) for row in rows):
        by_budget = {row["epsilon"]: row for row in rows if tuple(row[column] for column in keys) == key}
        first = next(iter(by_budget.values()))
        accuracies = {budget: percent(row) for budget, row in by_budget.items()}
        texts = {at: str(number) if intervals else number.mean + number.marks for at, number in accuracies.items()}
        numbers = [texts.get(budget, "") for budget in budgets]
        clean = percent_text(first["clean_accuracy"]) + clean_marks(first, planned)
        distance = [short_number(first["median_distance"]) for _ in median]
        yield _line([*map(escape_markdown, key), clean, *numbers, *distance])


def _notes(rows: list[Row], missing: Sequence[object]) -> Iterator[str]:
    single = {f"{row['variant']}, {row['attack']}": row for row in rows if not is_worst_case(row["attack"])}
    absent = [
        f"{name}: {row['missing']} of {row['missing'] + row['seeds']} seeds"
        for name, row in single.items()
        if row["missing"]
    ]
    errors = [f"{name}: {row['errors']} samples" for name, row in single.items() if row["errors"]]
    if absent or missing:
        note = "Numbers marked \\* leave these cells out; a worst case marked so may be too high."
        yield from ("", "## Missing cells", "", note, "")
        yield from (f"- {escape_markdown(str(cell))}" for cell in missing or absent)
    if masked := masked_variants(rows):
        note = "Numbers marked ‡ may be too high: the variant fails these checks."
        yield from ("", "## Failed checks", "", note, "")
        for variant, checks in masked.items():
            yield f"- {escape_markdown(variant)}: {', '.join(map(escape_markdown, checks))}"
    if errors:
        yield from ("", "## Errors", "", "Numbers marked † count these samples as fooled.", "")
        yield from (f"- {escape_markdown(name)}" for name in errors)


def _line(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |"
