"""Text that tables, figures and page share: budgets, percentages, sample counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gauntlet.reporting.footnotes import footnote_marks
from gauntlet.robustness.diagnostics.checks import accuracy_flags

Row = Mapping[str, Any]

_ROUNDING = 1e-9
"""Difference below which two percentages differ by the rounding of float64 alone."""


def counts_text(rows: Iterable[Row], certified: Iterable[Row]) -> str:
    """Return the numbers of samples and seeds behind summary rows as text, without results those behind certificates.

    `certified` are rows with the columns `samples` and `seeds` of CERTIFIED_SCHEMA.
    """
    for measured in (rows, certified):
        if texts := dict.fromkeys(_sample_count_text(row) for row in measured if row["seeds"]):
            return "; ".join(texts)
    return "nothing was measured"


def _sample_count_text(row: Row) -> str:
    """Return the numbers of samples and seeds behind a summary row with results as text."""
    seeds = row["seeds"]
    return f"{row['samples'] // seeds} samples × {seeds} {'seed' if seeds == 1 else 'seeds'}"


def units_text(norms: Iterable[str]) -> str:
    """Return the units of budgets and radii in these norms: in L0, a budget is a count."""
    counts, pixels = "numbers of changed values", "pixel units of [0, 1]"
    listed = set(norms)
    if "l0" not in listed:
        return pixels
    return f"{pixels}, in L0 {counts}" if listed - {"l0"} else counts


def budget_text(epsilon: float) -> str:
    """Return a budget as a short decimal number, or in 255ths where it is a multiple of 1/255."""
    if epsilon >= 1000:  # In L0, where it is a count.
        return f"{epsilon:.0f}"
    steps = round(epsilon * 255)
    if len(f"{epsilon:g}") > 5 and steps and abs(epsilon * 255 - steps) < 1e-4:
        return f"{steps}/255"
    return f"{epsilon:.4g}"


def short_number(value: float | None) -> str:
    """Return a number, such as a distance, with three digits and without an exponent above 1; a dash for None."""
    if value is None:
        return "–"
    # From 999.5 on, three digits would be 1e+03.
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"


def percent_text(share: float | None, *, digits: int = 1) -> str:
    """Return a share in percent with `digits` decimals; a dash for None.

    Only 0 and 1 are printed as none and all: a share near them, or a small spread, has as many decimals as show that.
    """
    return "–" if share is None else decimal_text(100 * share, digits=digits)


def decimal_text(percent: float, *, digits: int = 1) -> str:
    """Return a number in percent as `percent_text` does."""
    text = f"{percent:z.{digits}f}"
    rounded = float(text)
    if rounded not in (0.0, 100.0) or abs(percent - rounded) < _ROUNDING or not 0 <= percent <= 100:
        return text
    return decimal_text(percent, digits=digits + 1)


@dataclass(frozen=True)
class Percent:
    """A robust or certified accuracy in percent, as text.

    `spread` is half the width of the t-interval over seeds, `interval` the Wilson interval over samples, `marks` the
    marks of `footnotes`. Parts that do not exist are empty.
    """

    mean: str
    spread: str
    interval: str
    marks: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.mean, self.spread, self.interval) if part) + self.marks


def percent(row: Row) -> Percent:
    """Return the robust accuracy of a summary row, or the certified accuracy of a row of CERTIFIED_SCHEMA, as text."""
    mean = row["certified_accuracy" if "certified_accuracy" in row else "robust_accuracy"]
    marks = footnote_marks([row])
    if mean is None:
        return Percent("–", "", "", marks)
    spread = "" if row["t_low"] is None else f"± {percent_text((row['t_high'] - row['t_low']) / 2)}"
    interval = f"[{100 * row['wilson_low']:.1f}, {100 * row['wilson_high']:.1f}]"
    return Percent(percent_text(mean), spread, interval, marks)


def clean_marks(row: Row, planned: Mapping[str, int]) -> str:
    """Return the footnote marks of the clean accuracy of a summary row, with the number of seeds of each variant."""
    missing = planned.get(row["variant"], 0) - row["seeds"]
    return footnote_marks([{"missing": max(0, missing), "flags": accuracy_flags(row["flags"])}])


def clean_marks_of(rows: Iterable[Row]) -> dict[str, str]:
    """Map each variant of summary rows to the footnote marks of its clean and certified accuracy."""
    return {variant: footnote_marks([{"flags": flags}]) for variant, flags in accuracy_flags_of(rows).items()}


def accuracy_flags_of(rows: Iterable[Row]) -> dict[str, str]:
    """Map each variant of summary rows to its failed checks that flag accuracy without an attack too."""
    flags: dict[str, str] = {}
    for row in rows:
        flags[row["variant"]] = flags.get(row["variant"]) or accuracy_flags(row["flags"])
    return flags


def masked_variants(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Map the variants that fail a check in any norm to these checks."""
    failed_checks: dict[str, dict[str, None]] = {}
    for row in rows:
        for check in filter(None, (row.get("flags") or "").split(", ")):
            failed_checks.setdefault(str(row["variant"]), {})[check] = None
    return {variant: list(checks) for variant, checks in failed_checks.items()}


def sentence(text: str) -> str:
    """Return a text with a full stop at its end, unless it ends a sentence already."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def escape_markdown(text: str) -> str:
    """Escape the characters that are special to Markdown or HTML, or to GitHub's formulas."""
    return re.sub(r"[\\`*_\[\]<>|#~$]|&(?=#?\w+;)", r"\\\g<0>", text)
