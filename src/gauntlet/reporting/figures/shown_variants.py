"""The variants that a figure shows: those that the configuration selects, else as many as a panel of lines holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.reporting.figures.inputs import FigureInputs

MOST_LINES = 8
"""Number of variants up to which lines in one panel can be distinguished."""


def choose_variants(inputs: FigureInputs, tags: Mapping[str, Any]) -> tuple[FigureInputs, str]:
    """Return the inputs with the variants that a figure with these tags shows, and a note on those that it does not.

    A figure that `shows_all` has every variant. The others have those that the configuration shows. Without such a
    choice, a figure of `lines` has the first eight in the order of the configuration, and the rest have all.
    """
    count = len(inputs.variants)
    if tags.get("shows_all"):
        return inputs, ""
    chosen = [name for name in inputs.variants if name in inputs.shown]
    if chosen:
        note = f"{len(chosen)} chosen of {count} variants" if len(chosen) < count else ""
        return inputs.only(chosen), note
    if tags.get("lines") and count > MOST_LINES:
        return inputs.only(inputs.variants[:MOST_LINES]), f"the first {MOST_LINES} of {count} variants"
    return inputs, ""
