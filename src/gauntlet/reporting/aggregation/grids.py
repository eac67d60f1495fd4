"""Grids of an experiment as results store them: the factors, their levels, and the levels of each variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gauntlet.core.files import canonical_json

if TYPE_CHECKING:
    from gauntlet.config.schema import Experiment
    from gauntlet.reporting.aggregation.design import ExperimentDesign

VARIANTS_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("variant_title", pa.string()),
        ("grid", pa.string()),
        ("factor", pa.string()),
        ("level", pa.string()),
        ("title", pa.string()),
        ("value", pa.string()),
        ("factor_position", pa.int64()),
        ("level_position", pa.int64()),
    ]
)
"""One row per variant and factor, in the order of the configuration; one row for a variant that is of no grid.

`grid` is the name of the grid with its places: two grids may have factors of one name, which are not one factor.
`level` is the level's part of the variant's name, empty where names leave it out, and `title` its printed name. `value`
is the level as configured, as JSON. The positions are those in the configuration, from 0. A variant without a grid has
nulls from `grid` on.
"""


@dataclass(frozen=True)
class LevelDesign:
    """A level of a factor: `name` as in names of variants, its printed `title`, and its `value` as JSON."""

    name: str
    title: str
    value: str


@dataclass(frozen=True)
class FactorDesign:
    """A factor of a grid with its levels, in the order of the configuration."""

    name: str
    levels: tuple[LevelDesign, ...]


@dataclass(frozen=True)
class GridDesign:
    """A grid: for each variant the number of its level of each factor, -1 where the factor does not exist for it."""

    name: str
    factors: tuple[FactorDesign, ...]
    variants: Mapping[str, tuple[int, ...]]

    @property
    def is_varied(self) -> bool:
        """Return whether its variants have two levels of a factor."""
        return any(len(set(numbers) - {-1}) > 1 for numbers in zip(*self.variants.values(), strict=True))


def grids_from_config(experiment: Experiment) -> tuple[GridDesign, ...]:
    """Return the grids of an experiment's configuration."""
    return tuple(
        GridDesign(
            grid.name,
            tuple(
                FactorDesign(
                    axis.name,
                    tuple(LevelDesign(level.label, level.title, canonical_json(level.value)) for level in axis.levels),
                )
                for axis in grid.axes
            ),
            {
                variant: tuple(levels[axis.name].order if axis.name in levels else -1 for axis in grid.axes)
                for variant, levels in grid.variants.items()
            },
        )
        for grid in experiment.measured_grids
    )


def variants_table(design: ExperimentDesign) -> pa.Table:
    """List the factors and levels of every variant: rows of VARIANTS_SCHEMA."""
    return pa.Table.from_pylist(list(_rows(design)), schema=VARIANTS_SCHEMA)


def _rows(design: ExperimentDesign) -> Iterator[dict[str, Any]]:
    for variant in design.variants:
        title = design.titles.get(variant, variant)
        ids: dict[str, Any] = {"experiment": design.experiment, "variant": variant, "variant_title": title}
        rows = [
            {
                **ids,
                "grid": grid.name,
                "factor": factor.name,
                "level": factor.levels[number].name,
                "title": factor.levels[number].title,
                "value": factor.levels[number].value,
                "factor_position": position,
                "level_position": number,
            }
            for grid in design.grids
            for position, (factor, number) in enumerate(
                zip(grid.factors, grid.variants.get(variant, [-1] * len(grid.factors)), strict=True)
            )
            if number >= 0
        ]
        yield from rows or [ids]
