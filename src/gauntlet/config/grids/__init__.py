"""Ablation grids: one entry of `variants` with `axes` becomes one ordinary variant per combination of their levels.

The expansion happens while a file is loaded, before the schema sees the variants, so no other part of the package
distinguishes a variant that a grid made from one that is written out: same recipes, same files, same staleness.

What a grid adds is kept in `Experiment.grids`, a tuple of `Grid`: its axes with their levels, and for each variant the
levels that it has, `Grid.variants[variant][axis]`. `Experiment.levels_of(variant)` finds them by variant; an axis that
does not exist for a variant (`when`) is not among them. These are the factors of a factorial analysis: factor is the
axis's name, level is `Level.label` (unique in its axis, may be empty for the reference level), its value as written is
`Level.value`, its text in figures is `Level.title`, and `Level.order` is its position in the axis. They are in no
recipe: code that reads them to make a file must put what it reads into the slice of its own stage.
"""

from gauntlet.config.grids.axes import Axis, Grid, Level
from gauntlet.config.grids.expansion import Expansion, expand

__all__ = ["Axis", "Expansion", "Grid", "Level", "expand"]
