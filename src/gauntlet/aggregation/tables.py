"""The summary as text: Markdown to read, CSV to load; the worst case comes first and says what it rests on."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gauntlet.aggregation.queries import WORST_CASE

NORM_NAMES = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
"""How a norm is written in text."""

Row = Mapping[str, Any]


def csv_table(summary: pa.Table) -> str:
    """Write every row and column of a summary as CSV, worst cases first; an unknown value is an empty field."""
    out = io.StringIO()
    writer = csv.DictWriter(out, summary.column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(summary.to_pylist(), key=lambda row: not is_worst_case(row)))
    return out.getvalue()


def markdown_table(summary: pa.Table, *, missing: Sequence[object] = ()) -> str:
    """Write a summary as a Markdown page: worst case per norm, then single attacks, then errors and missing cells.

    `missing` are the cells that could not be aggregated, named as they print.
    """
    rows = summary.to_pylist()
    experiment = ", ".join(dict.fromkeys(row["experiment"] for row in rows))
    return "\n".join([f"# {_escaped(experiment)}", "", *_page(rows, missing)]) + "\n"


def is_worst_case(row: Row) -> bool:
    """Tell whether a summary row is the worst case over the attacks of a norm."""
    return str(row["attack"]).startswith(WORST_CASE)


def counted(row: Row) -> str:
    """Say on how many samples and seeds a summary row rests."""
    seeds = row["seeds"]
    if not seeds:
        return "nothing was measured"
    return f"{row['samples'] // seeds} samples × {seeds} {'seed' if seeds == 1 else 'seeds'}"


def budget_text(epsilon: float) -> str:
    """Write a budget shortly: as a decimal number, or in 255ths where that is what was meant."""
    steps = round(epsilon * 255)
    if len(f"{epsilon:g}") > 5 and steps and abs(epsilon * 255 - steps) < 1e-4:
        return f"{steps}/255"
    return f"{epsilon:.4g}"


@dataclass(frozen=True)
class Percent:
    """A robust accuracy in percent as it is printed.

    `spread` is the half width of the t-interval over seeds, `interval` the Wilson interval over samples; `flags` holds
    an asterisk where cells are missing and a dagger where errors count as fooled. Parts that do not exist are empty.
    """

    mean: str
    spread: str
    interval: str
    flags: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.mean, self.spread, self.interval) if part) + self.flags


def percent(row: Row) -> Percent:
    """Spell the robust accuracy of a summary row."""
    mean = row["robust_accuracy"]
    flags = ("*" if row["missing"] else "") + ("†" if row["errors"] else "")
    if mean is None:
        return Percent("–", "", "", flags)
    spread = "" if row["t_low"] is None else f"± {50 * (row['t_high'] - row['t_low']):.1f}"
    interval = f"[{100 * row['wilson_low']:.1f}, {100 * row['wilson_high']:.1f}]"
    return Percent(f"{100 * mean:.1f}", spread, interval, flags)


def _page(rows: list[Row], missing: Sequence[object]) -> Iterator[str]:
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
        names = dict.fromkeys(row["attack"] for row in single)
        yield from ("", f"## {_escaped(NORM_NAMES.get(norm, norm))}: worst case per sample over all attacks")
        yield from ("", f"Attacks: {', '.join(map(_escaped, names))}.", "")
        yield from _grid([row for row in here if is_worst_case(row)], ("variant",), intervals=True)
        yield from ("", f"### {_escaped(NORM_NAMES.get(norm, norm))}: single attacks", "")
        yield from _grid(single, ("variant", "attack"), intervals=False)
    yield from _notes(rows, missing)


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
        yield _line([*map(_escaped, key), clean, *values, *distance])


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
        yield from (f"- {_escaped(str(cell))}" for cell in missing or absent)
    if errors:
        yield from ("", "## Errors", "", "A number marked † counts these samples as fooled.", "")
        yield from (f"- {_escaped(name)}" for name in errors)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Keep a name from being read as Markdown or HTML."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
