"""The table of published numbers as lines of text, which files and page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.reporting.footnotes import footnote_marks, footnotes
from gauntlet.reporting.formatting import budget_text, decimal_text, sentence
from gauntlet.reporting.tables.published_rows import INSIDE, MISSING, PERCENT, stated_epoch

HEADS = ("variant", "quantity", "published", "measured", "95 % interval", "expected", "seeds", "samples", "verdict")


_MOST_MORE_DIGITS = 5
"""Number of digits that may be added to those of the expected bounds."""


@dataclass(frozen=True)
class PublishedLine:
    """A row of the table as text: `fields` follow HEADS, `marks` belong to the measured number."""

    variant: str
    fields: tuple[str, ...]
    marks: str
    verdict: str


def published_lines(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> list[PublishedLine]:
    """Return the rows of PUBLISHED_SCHEMA as text; `titles` maps variants to their printed names."""
    return [
        PublishedLine(
            row["variant"],
            (
                titles.get(row["variant"], row["variant"]),
                quantity_text(row),
                _published(row),
                measured_text(row),
                interval_text(row),
                _expected(row),
                str(row["seeds"]),
                str(row["samples"] // row["seeds"]) if row["seeds"] and row["samples"] else "–",
                verdict_text(row),
            ),
            footnote_marks([row]),
            row["verdict"],
        )
        for row in rows
    ]


def published_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the notes on units, intervals, verdicts and marks, and those of single numbers."""
    notes = ["Accuracies in percent, measured ones as means over seeds; samples per seed."]
    if any(row["interval"] == "seeds" for row in rows):
        notes.append(
            "Intervals over training seeds: Student's t, of the mean. Expected: holds one further training, or the mean"
            " of as many as were published, with 95 %. inside: it holds the published value; outside: it does not."
            " Differences: measured less published, of accuracies in percentage points."
        )
    if any(row["interval"] == "samples" for row in rows):
        notes.append(
            "One seed, or seeds that are all equal: Wilson interval over samples, which has nothing of the spread over"
            " trainings."
        )
    notes += mark_notes(rows)
    notes += [f"{row['variant']}, {row['quantity']}: {sentence(row['note'])}" for row in rows if row["note"]]
    return notes


def mark_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each mark of the measured numbers, and one where models were not diagnosed."""
    stopped = any(row["missing"] and stated_epoch(row) is not None for row in rows)
    missing = f"cells are missing{', or trainings stopped before the stated epoch' if stopped else ''}: may be too high"
    return [f"{text[0].upper()}{text[1:]}." for text in footnotes(rows, missing=missing)]


def number_text(value: float | None, unit: str, *, more_digits: int = 0) -> str:
    """Return a measured number: percent with one decimal, others with five significant digits, or with more."""
    if value is None:
        return "–"
    return f"{value:z.{1 + more_digits}f}" if unit == PERCENT else f"{value:z.{5 + more_digits}g}"


def measured_text(row: Mapping[str, Any]) -> str:
    """Return the measured number of a row; an accuracy of none or all is exactly that (`decimal_text`)."""
    if row["measured"] is None or row["unit"] != PERCENT:
        return number_text(row["measured"], row["unit"])
    return decimal_text(row["measured"])


def interval_text(row: Mapping[str, Any]) -> str:
    """Return the bounds of a measured number; empty without an interval."""
    if row["low"] is None or row["high"] is None:
        return ""
    return f"{number_text(row['low'], row['unit'])} to {number_text(row['high'], row['unit'])}"


def verdict_text(row: Mapping[str, Any]) -> str:
    """Return the verdict, with the difference from the published value where that is not expected."""
    if row["verdict"] in (INSIDE, MISSING) or row["difference"] is None:
        return str(row["verdict"])
    if row["unit"] == PERCENT:
        return f"{row['verdict']}, {row['difference']:+z.1f}"
    return f"{row['verdict']}, {row['difference']:+.3g}"


def quantity_text(row: Mapping[str, Any]) -> str:
    """Return the name of a quantity with the budget or radius that was measured, or with the stated epoch."""
    name = str(row["quantity"]).split("@")[0].replace("_", " ")
    if row["budget"] is None:
        epoch = stated_epoch(row)
        return name if epoch is None else f"{name}, epoch {epoch}"
    return f"{name}, {NORM_TEXT.get(row['norm'], row['norm'])} {budget_text(row['budget'])}"


def _expected(row: Mapping[str, Any]) -> str:
    """Return the bounds of the published value, with the digits that the verdict needs: 84.6 is outside of 84.62 to 86.

    Empty without bounds.
    """
    low, high, published = row["expected_low"], row["expected_high"], row["published"]
    if low is None or high is None:
        return ""
    ends = [number_text(low, row["unit"]), number_text(high, row["unit"])]
    for more_digits in range(1, _MOST_MORE_DIGITS + 1):
        if published is None or (float(ends[0]) <= published <= float(ends[1])) == (row["verdict"] == INSIDE):
            break
        ends = [number_text(end, row["unit"], more_digits=more_digits) for end in (low, high)]
    return " to ".join(ends)


def _published(row: Mapping[str, Any]) -> str:
    if row["published"] is None:
        return "–"
    spread = "" if row["published_std"] is None else f" (std {row['published_std']:g})"
    seeds = "" if row["published_seeds"] is None else f", {row['published_seeds']} seeds"
    return f"{row['published']:g}{spread}{seeds}"
