"""The graph of cells: a pure function of the configuration. No file is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from gauntlet.config.schema import Config, Experiment
from gauntlet.core.errors import InputError, nearest
from gauntlet.pipeline.stage import Cell, Scope, Stage
from gauntlet.pipeline.stages.catalog import stages


class Graph:
    """The cells of a configuration, the files that each reads, and the cells that make these."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._scopes: dict[str, Scope] = {}
        self._inputs: dict[Cell, Mapping[Path, Cell]] = {}
        self._upstream: dict[Cell, list[Cell]] = {}

    def experiment(self, name: str) -> Experiment:
        """Return an experiment's settings. Raises InputError that names the nearest experiment."""
        return self._scope(name).settings

    def scope(self, cell: Cell) -> Scope:
        """Return the experiment that a cell belongs to; for a shared cell, the first one that needs it."""
        return self._scope(cell.experiment or self._owners[cell])

    def cells(self, experiments: Iterable[str] | None = None) -> Iterator[Cell]:
        """List every cell, or those of some experiments with the cells they share, each after those it needs."""
        chosen = list(self.config.experiments if experiments is None else experiments)
        shared = (cell for name in chosen for stage in stages() if _is_shared(stage) for cell in self._of(stage, name))
        yield from dict.fromkeys(shared)
        for name in chosen:
            yield from self.cells_of(name)

    def cells_of(self, experiment: str) -> Iterator[Cell]:
        """List the cells of one experiment, each after those it needs, without those shared with other experiments."""
        for stage in stages():
            if not _is_shared(stage):
                yield from self._of(stage, experiment)

    def find(self, cell: Cell) -> Cell:
        """Return a cell of this configuration. Raises InputError that names the nearest one if it is not."""
        if not cell.experiment:
            if cell not in self._owners:
                known = [other.name for other in self._owners if other.stage is cell.stage]
                raise InputError(f"no cell '{cell}' in this configuration", remedy=nearest(cell.name, known))
            return cell
        every = list(self.cells_of(cell.experiment))
        if cell not in every:
            same_stage = [str(other) for other in every if other.stage is cell.stage]
            raise InputError(f"no cell '{cell}' in this configuration", remedy=nearest(str(cell), same_stage))
        return cell

    def inputs(self, cell: Cell) -> Mapping[Path, Cell]:
        """Map every file that a cell reads to the cell that makes it; a manifest represents the files it lists."""
        if cell not in self._inputs:
            self._inputs[cell] = cell.stage.inputs(cell, self.scope(cell))
        return self._inputs[cell]

    def upstream(self, cell: Cell) -> list[Cell]:
        """List the cells that must be finished before a cell is made."""
        if cell not in self._upstream:
            makers = dict.fromkeys(self.inputs(cell).values())
            if cell.experiment:
                makers |= dict.fromkeys(cell.stage.waits_for(self.scope(cell)))
            self._upstream[cell] = list(makers)
        return self._upstream[cell]

    def shards(self, cell: Cell) -> int:
        """Return the number of jobs that share a cell's work."""
        return cell.stage.shards(cell, self.scope(cell))

    def processes(self, cell: Cell) -> int:
        """Return the number of processes, each with a GPU where there is one, in a cell's job."""
        return cell.stage.processes(cell, self.scope(cell))

    def computes(self, cell: Cell) -> bool:
        """Return whether a cell's job computes with a network, on a GPU where there is one."""
        return cell.stage.uses_model and not cell.stage.is_light(cell, self.scope(cell))

    @cached_property
    def _owners(self) -> dict[Cell, str]:
        """The cells that belong to no single experiment, with the first experiment that needs each."""
        owners: dict[Cell, str] = {}
        for name in self.config.experiments:
            for stage in stages():
                if _is_shared(stage):
                    for cell in self._of(stage, name):
                        owners.setdefault(cell, name)
        return owners

    def _of(self, stage: Stage, experiment: str) -> Iterable[Cell]:
        return stage.cells(self._scope(experiment))

    def _scope(self, experiment: str) -> Scope:
        if experiment not in self._scopes:
            if experiment not in self.config.experiments:
                raise InputError(f"no experiment '{experiment}'", remedy=nearest(experiment, self.config.experiments))
            self._scopes[experiment] = Scope(experiment, self.config)
        return self._scopes[experiment]


def _is_shared(stage: Stage) -> bool:
    return "experiment" not in stage.ids
