"""Wording that tables, figures and page share: norms, budgets, percentages, flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gauntlet.reporting.aggregation.definitions import WORST_CASE

NORM_NAMES = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
"""How a norm is written in text."""

Row = Mapping[str, Any]


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
    an asterisk where cells are missing, a dagger where errors count as fooled, a double dagger where gradients look
    masked. Parts that do not exist are empty.
    """

    mean: str
    spread: str
    interval: str
    flags: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.mean, self.spread, self.interval) if part) + self.flags


def percent(row: Row) -> Percent:
    """Spell the robust accuracy of a summary row, or the certified accuracy of a row of certified accuracies."""
    mean = row["certified_accuracy" if "certified_accuracy" in row else "robust_accuracy"]
    flags = ("*" if row["missing"] else "") + ("†" if row.get("errors") else "") + ("‡" if row.get("flags") else "")
    if mean is None:
        return Percent("–", "", "", flags)
    spread = "" if row["t_low"] is None else f"± {50 * (row['t_high'] - row['t_low']):.1f}"
    interval = f"[{100 * row['wilson_low']:.1f}, {100 * row['wilson_high']:.1f}]"
    return Percent(f"{100 * mean:.1f}", spread, interval, flags)


def masked_variants(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Map the variants that diagnostics flag to the checks that they fail, in any norm."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for check in filter(None, (row.get("flags") or "").split(", ")):
            found.setdefault(str(row["variant"]), {})[check] = None
    return {variant: list(checks) for variant, checks in found.items()}


def escaped(text: str) -> str:
    """Keep a name from being read as Markdown or HTML."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return text
