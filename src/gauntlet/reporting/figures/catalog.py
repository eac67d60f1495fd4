"""The figures that an experiment has, in the order of docs/tour.md; without matplotlib, for the graph of cells.

A figure declares in the tags of `@FIGURES.register` the result tables that it `reads`, those that it `may_read`, and
the features of an experiment that it `needs`. A figure with `shows_all` has every variant, such as a matrix with a row
for each; the others have those that the experiment's key `show` selects. One `at_headline` is drawn at the budgets of
the key `headline`, which the tables that it reads do not contain. `lines` marks figures with a line per variant
in each panel, which is unreadable for many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gauntlet.registry import FIGURES

TOUR = (
    "training_curves",
    "robust_accuracy",
    "heat_map",
    "factor_effects",
    "paired_budgets",
    "diagnostics_matrix",
    "transfer_matrix",
    "certificate_distance",
    "certified_accuracy",
    "confidence",
    "coverage",
    "adversarial_examples",
    "class_examples",
    "prediction_bars",
    "activation_functions",
    "leaky_activations",
    "first_layer_filters",
    "unit_patterns",
    "unit_patches",
    "image_transition",
    "image_plane",
    "negative_examples",
    "unit_fits",
    "signal_depth",
)
"""The order of figures in docs/tour.md, docs/figures.md and the page; figures that are not listed come last."""

TABLES = frozenset(
    {"certificates", "diagnostics", "effects", "evaluations", "examples", "histories", "inspections", "summary"}
)
"""Names of the result tables that figures read."""

FEATURES = frozenset(
    {"attacks", "certificates", "factors", "layer_designs", "negatives", "several_variants", "trainings", "transfers"}
)
"""Features that only some experiments have.

``attacks``, ``certificates``: at least one. ``factors``: a grid with a factor of two levels. ``layer_designs``: a
variant whose options name a unit, a folding or an activation other than the default. ``negatives``: a variant that
trains on negative examples. ``several_variants``: two or more. ``trainings``: a variant that is trained, not adopted.
``transfers``: an attack computed on the models of other variants.
"""


def figure_names(*, tables: Collection[str] = TABLES, features: Collection[str]) -> list[str]:
    """Return the figures whose tables exist and whose needed features the experiment has, in the order of the tour."""
    return tour_order(
        name
        for name, entry in FIGURES.catalog.items()
        if set(entry.tags["reads"]).issubset(tables) and set(entry.tags.get("needs", ())).issubset(features)
    )


def tour_order(names: Iterable[str]) -> list[str]:
    """Sort names of figures in the order of the tour, those that it does not show last."""
    return sorted(names, key=lambda name: TOUR.index(name) if name in TOUR else len(TOUR))
