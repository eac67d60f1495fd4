"""Expected duration of each cell, from its own last run, from similar cells, or from a trial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness
from gauntlet.pipeline.status.metadata import recorded_seconds, shard_benchmarks, total_seconds
from gauntlet.pipeline.status.predictions import predicted_seconds

_SAMPLED_CELLS = 5
"""Number of similar cells whose recorded durations are read; their median counts."""

_SIMILARITY: tuple[Callable[[Cell], Any], ...] = (
    lambda cell: (cell.stage, cell.experiment, cell.variant, cell.name),
    lambda cell: (cell.stage, cell.experiment, cell.name),
    lambda cell: (cell.stage, cell.name),
    lambda cell: (cell.stage,),
)
"""Keys that similar cells share, from the most to the least similar."""

_WITH_NAME = 3
"""The first keys include the attack; cells that share only the last predict a cell less well than its own trial."""


class Costs:
    """Seconds per cell: of its last run, else the median of similar cells that exist, else as predicted.

    Cells of quick forms are similar only to one another: their durations say nothing about full forms.
    """

    def __init__(self, staleness: Staleness) -> None:
        self._staleness = staleness
        self._quick = frozenset(staleness.graph.config.quick_forms)
        self._existing: dict[Any, list[Cell]] = defaultdict(list)
        for cell in staleness.graph.cells():
            if cell.outputs[0].is_file():
                for level in range(len(_SIMILARITY)):
                    self._existing[self._key(level, cell)].append(cell)
        self._medians: dict[Any, float | None] = {}
        self._seconds: dict[Cell, float | None] = {}
        self._shards: dict[Path, Mapping[str, Sequence[Path]]] = {}

    def of(self, cell: Cell) -> float | None:
        """Return the expected seconds of a cell; None if no similar cell was ever timed."""
        recorded = self._recorded(cell)
        if recorded is not None:
            return recorded
        for level in range(len(_SIMILARITY)):
            if level == _WITH_NAME and (predicted := self._predicted(cell)) is not None:
                return predicted
            if (cost := self._median(self._key(level, cell))) is not None:
                return cost
        return None

    def _key(self, level: int, cell: Cell) -> tuple[Any, ...]:
        # Training, adoption and a choice make the same files in very different times.
        work = cell.stage.work(cell, self._staleness.graph.scope(cell))
        return level, cell.experiment in self._quick, work, _SIMILARITY[level](cell)

    def _predicted(self, cell: Cell) -> float | None:
        recipe = self._staleness.recipe(cell) if paths.prediction(cell).is_file() else None
        return predicted_seconds(cell, recipe.digest) if recipe else None

    def _median(self, key: Any) -> float | None:
        if key not in self._medians:
            existing = self._existing.get(key, [])
            # Spread over the list: neighbors may all be cheap.
            sampled = existing[:: max(1, len(existing) // _SAMPLED_CELLS)][:_SAMPLED_CELLS]
            recorded = [seconds for cell in sampled if (seconds := self._recorded(cell)) is not None]
            self._medians[key] = median(recorded) if recorded else None
        return self._medians[key]

    def _recorded(self, cell: Cell) -> float | None:
        if cell not in self._seconds:
            # Without its file, a split cell's own benchmark is of the job that gathered what its shards had finished.
            known = [recorded_seconds(cell), self._in_shards(cell) if cell.stage.shardable else None]
            self._seconds[cell] = max((seconds for seconds in known if seconds is not None), default=None)
        return self._seconds[cell]

    def _in_shards(self, cell: Cell) -> float | None:
        """Return the seconds of all shards of a cell together, as they were last split; None if it never was."""
        log = paths.log(cell)
        if log.parent not in self._shards:
            self._shards[log.parent] = shard_benchmarks(log.parent)
        return total_seconds(self._shards[log.parent].get(log.stem, ()))
