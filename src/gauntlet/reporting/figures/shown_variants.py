"""The variants that a figure shows: those that the configuration selects, else as many as a panel of lines holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gauntlet.reporting.figures.facets import MOST_LINES, find_facets
from gauntlet.reporting.figures.inputs import FigureInputs


def choose_variants(inputs: FigureInputs, tags: Mapping[str, Any]) -> tuple[FigureInputs, str]:
    """Return the inputs with the variants that a figure with these tags shows, and a note on those that it does not.

    A figure that `shows_all` has every variant. The others have those that the configuration shows. Of more than eight,
    a figure of `lines` that is `faceted` gets facets. Without facets and without a choice, a figure of lines has the
    first eight in the order of the configuration.
    """
    count = len(inputs.variants)
    if tags.get("shows_all"):
        return inputs, ""
    chosen = inputs.only(inputs.shown) if any(name in inputs.shown for name in inputs.variants) else inputs
    note = f"{len(chosen.variants)} chosen of {count} variants" if len(chosen.variants) < count else ""
    if not tags.get("lines") or len(chosen.variants) <= MOST_LINES:
        return chosen, note
    if tags.get("faceted") and (facets := find_facets(chosen.variants, inputs.titles, inputs.grids, inputs.facet_by)):
        return replace(chosen, facets=facets), note
    if chosen is inputs:
        return inputs.only(inputs.variants[:MOST_LINES]), f"the first {MOST_LINES} of {count} variants"
    return chosen, note
