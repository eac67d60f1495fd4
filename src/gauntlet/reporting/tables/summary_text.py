"""The summary as text: Markdown to read, CSV to load; the worst case comes first and says what it rests on."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterable, Iterator, Sequence

import pyarrow as pa

from gauntlet.reporting.formatting import (
    NORM_NAMES,
    Row,
    budget_text,
    counted,
    escaped,
    is_worst_case,
    masked_variants,
    percent,
)

_CONSTANTS = {"lipschitz_claimed": "Lipschitz constant claimed", "lipschitz_measured": "measured"}


def csv_table(summary: pa.Table) -> str:
    """Write every row and column of a summary as CSV, worst cases first; an unknown value is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, summary.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(summary.to_pylist(), key=lambda row: not is_worst_case(row)))
    return out.getvalue()


def markdown_table(
    summary: pa.Table,
    *,
    certified: pa.Table | None = None,
    missing: Sequence[object] = (),
    uncounted: Container[str] = (),
) -> str:
    """Write a summary as a Markdown page: worst case per norm, single attacks, certificates, errors, missing cells.

    `certified` holds certified accuracies; `missing` are the cells that could not be aggregated, named as they print;
    `uncounted` attacks have no part in a worst case.
    """
    rows, radii = summary.to_pylist(), certified.to_pylist() if certified is not None else []
    experiment = ", ".join(dict.fromkeys(row["experiment"] for row in [*rows, *radii]))
    return "\n".join([f"# {escaped(experiment)}", "", *_page(rows, radii, missing, uncounted)]) + "\n"


def _page(rows: list[Row], radii: list[Row], missing: Sequence[object], uncounted: Container[str]) -> Iterator[str]:
    headline = [row for row in rows if is_worst_case(row) and row["seeds"]]
    counts = "; ".join(dict.fromkeys(map(counted, headline))) or "nothing was measured"
    yield (
        "Robust accuracy in percent: the share of test samples that no attack fooled within ε "
        f"(pixel units of [0, 1]); {counts}. "
        "Mean over seeds ± 95 % t-interval over seeds [95 % Wilson interval over samples]."
    )
    for norm in dict.fromkeys(row["norm"] for row in rows):
        here = [row for row in rows if row["norm"] == norm]
        single = [row for row in here if not is_worst_case(row)]
        names = dict.fromkeys(row["attack"] for row in single if row["attack"] not in uncounted)
        yield from ("", f"## {escaped(NORM_NAMES.get(norm, norm))}: worst case per sample over all attacks")
        yield from ("", f"Attacks: {', '.join(map(escaped, names))}.", "")
        yield from _grid([row for row in here if is_worst_case(row)], ("variant",), intervals=True)
        yield from ("", f"### {escaped(NORM_NAMES.get(norm, norm))}: single attacks", "")
        yield from _grid(single, ("variant", "attack"), intervals=False)
    yield from _certified(radii)
    yield from _notes(rows, missing)


def _certified(rows: list[Row]) -> Iterator[str]:
    """One table per certificate, a line per variant and a column per radius; what it certifies stands above it."""
    if not rows:
        return
    yield from ("", "## Certified accuracy", "")
    yield (
        "Percent: the share of all test samples whose right class is certified against every perturbation smaller than "
        "the radius (pixel units of [0, 1]). Mean over seeds ± 95 % t-interval over seeds."
    )
    for name in dict.fromkeys(row["certificate"] for row in rows):
        here = [row for row in rows if row["certificate"] == name]
        norm, certifies = str(here[0]["norm"]), str(here[0]["certifies"])
        yield from ("", f"### {escaped(NORM_NAMES.get(norm, norm))}: {escaped(str(name))}", "")
        if certifies != "model":
            yield f"Of the {escaped(certifies)} classifier, not of the model that the attacks above are on."
            yield ""
        # The radii are those of the norm; where another certificate reaches farther, columns of zeros say nothing.
        reached = max((row["radius"] for row in here if row["certified_accuracy"]), default=0.0)
        radii = sorted({row["radius"] for row in here if row["radius"] <= reached})
        constants = [name for name in _CONSTANTS if any(row.get(name) is not None for row in here)]
        numbers = ["abstained", *(f"r = {budget_text(radius)}" for radius in radii), "median radius"]
        yield _line(["variant", *numbers, *map(_CONSTANTS.__getitem__, constants)])
        yield _line(["---", *["---:"] * (len(numbers) + len(constants))])
        for variant in dict.fromkeys(row["variant"] for row in here):
            line = {row["radius"]: row for row in here if row["variant"] == variant}
            first, shown = line[radii[0]], (percent(line[radius]) for radius in radii)
            abstained = "–" if first["abstained"] is None else f"{100 * first['abstained']:.1f}"
            shares = (" ".join(filter(None, [one.mean, one.spread])) + one.flags for one in shown)
            last = (_number(first[name]) for name in ("median_radius", *constants))
            yield _line([escaped(variant), abstained, *shares, *last])


def _grid(rows: list[Row], keys: tuple[str, ...], *, intervals: bool) -> Iterator[str]:
    """One line per key, one column per budget; a blank where the attack was not run at a budget."""
    budgets = sorted({row["epsilon"] for row in rows})
    median = ["median distance"] if keys == ("variant", "attack") else []
    yield _line([*keys, "clean", *(f"ε = {budget_text(budget)}" for budget in budgets), *median])
    yield _line(["---"] * len(keys) + ["---:"] * (1 + len(budgets) + len(median)))
    for key in dict.fromkeys(tuple(row[column] for column in keys) for row in rows):
        line = {row["epsilon"]: row for row in rows if tuple(row[column] for column in keys) == key}
        first = next(iter(line.values()))
        clean = "–" if first["clean_accuracy"] is None else f"{100 * first['clean_accuracy']:.1f}"
        numbers = {budget: percent(row) for budget, row in line.items()}
        shown = {at: str(number) if intervals else number.mean + number.flags for at, number in numbers.items()}
        values = [shown.get(budget, "") for budget in budgets]
        distance = [_number(first["median_distance"]) for _ in median]
        yield _line([*map(escaped, key), clean, *values, *distance])


def _notes(rows: list[Row], missing: Sequence[object]) -> Iterator[str]:
    flagged = {f"{row['variant']}, {row['attack']}": row for row in rows if not is_worst_case(row)}
    absent = [
        f"{name}: {row['missing']} of {row['missing'] + row['seeds']} seeds"
        for name, row in flagged.items()
        if row["missing"]
    ]
    errors = [f"{name}: {row['errors']} samples" for name, row in flagged.items() if row["errors"]]
    if absent or missing:
        told = "A number marked \\* leaves them out; a worst case so marked may be too high."
        yield from ("", "## Missing cells", "", told, "")
        yield from (f"- {escaped(str(cell))}" for cell in missing or absent)
    if masked := masked_variants(rows):
        told = (
            "A number marked ‡ is of a variant whose gradients look masked, and may be too high; it fails these checks."
        )
        yield from ("", "## Gradient masking", "", told, "")
        yield from (f"- {escaped(variant)}: {', '.join(map(escaped, checks))}" for variant, checks in masked.items())
    if errors:
        yield from ("", "## Errors", "", "A number marked † counts these samples as fooled.", "")
        yield from (f"- {escaped(name)}" for name in errors)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
