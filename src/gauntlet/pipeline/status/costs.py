"""What making a cell will cost, from what it, or cells like it, took before, or from a trial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

from gauntlet.config.grid import Cell
from gauntlet.pipeline import paths
from gauntlet.pipeline.staleness import Plan
from gauntlet.pipeline.status import logs as records
from gauntlet.pipeline.status.predictions import predicted

ASKED = 5
"""How many cells of a kind are asked for how long they took; their median counts."""

# From the most to the least alike.
_KINDS: tuple[Callable[[Cell], Any], ...] = (
    lambda cell: (cell.stage, cell.experiment, cell.variant, cell.name),
    lambda cell: (cell.stage, cell.experiment, cell.name),
    lambda cell: (cell.stage, cell.name),
    lambda cell: (cell.stage,),
)


_ALIKE = 3
"""The kinds that share the attack; others say less of a cell than a trial of its own."""


class Costs:
    """Seconds per cell: as it took last time, else the median of cells alike that are there, else as predicted.

    Cells of quick forms are like one another only: they say nothing of what the full ones take.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._quick = frozenset(plan.config.quick_forms)
        self._there: dict[Any, list[Cell]] = defaultdict(list)
        for cell in plan.cells():
            if paths.products(cell)[0].is_file():
                for number in range(len(_KINDS)):
                    self._there[self._kind(number, cell)].append(cell)
        self._typical: dict[Any, float | None] = {}
        self._seconds: dict[Cell, float | None] = {}

    def of(self, cell: Cell) -> float | None:
        """Say how many seconds making a cell takes; None if nothing like it was ever timed."""
        own = self._took(cell)
        if own is not None:
            return own
        for number in range(len(_KINDS)):
            if number == _ALIKE and (trial := self._predicted(cell)) is not None:
                return trial
            if (cost := self._of_kind(self._kind(number, cell))) is not None:
                return cost
        return None

    def _kind(self, number: int, cell: Cell) -> tuple[Any, ...]:
        return number, cell.experiment in self._quick, _KINDS[number](cell)

    def _predicted(self, cell: Cell) -> float | None:
        recipe = self._plan.recipe(cell) if cell.stage == "evaluate" else None
        return predicted(cell, recipe.string) if recipe else None

    def _of_kind(self, kind: Any) -> float | None:
        if kind not in self._typical:
            there = self._there.get(kind, [])
            # Spread over the list, since neighbours may be the cheap ones.
            asked = there[:: max(1, len(there) // ASKED)][:ASKED]
            took = [seconds for cell in asked if (seconds := self._took(cell)) is not None]
            self._typical[kind] = median(took) if took else None
        return self._typical[kind]

    def _took(self, cell: Cell) -> float | None:
        if cell not in self._seconds:
            self._seconds[cell] = records.seconds(cell)
        return self._seconds[cell]
