"""A stage's cells made in this process: what `gauntlet STAGE` does, callable from Python."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.config import load
from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.core.files import SCRATCH, require_writable
from gauntlet.pipeline.forcing import Forced
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.stage import Cell, Stage
from gauntlet.pipeline.stages import torchrun
from gauntlet.pipeline.stages.outputs import sweep
from gauntlet.pipeline.staleness import Staleness, State

log = logging.getLogger("gauntlet")

DEFAULT_CONFIG = Path("config.yaml")


@dataclass(frozen=True)
class Selection:
    """The ids of the cells to make; None selects all, but no quick form, which is made by its name only."""

    experiment: str | None = None
    variant: str | None = None
    seed: int | None = None
    name: str | None = None

    def cells(self, graph: Graph, stage: Stage, *, doing: str = "") -> list[Cell]:
        """List the selected cells of a stage. Raises InputError that names some that exist if there are none."""
        selected = [cell for cell in graph.cells(self._experiments(graph.config, stage)) if cell.stage is stage]
        matching = [cell for cell in selected if self._matches(cell)]
        if not matching:
            ids = {"experiment": self.experiment, "variant": self.variant, "seed": self.seed, stage.key: self.name}
            given = " ".join(f"--{name} {value}" for name, value in ids.items() if value is not None)
            known = [str(cell) for cell in graph.cells() if cell.stage is stage]
            available = ", ".join(known[:8]) + (", …" if len(known) > 8 else "")
            if not known:
                needs = f", for which an experiment needs {stage.needs}" if stage.needs else ""
                raise InputError(f"this configuration has no {stage.name} cells{needs}")
            raise InputError(
                f"no {doing or stage.name} cell matches {given or 'this configuration'}",
                remedy=f"available: {available}",
            )
        return matching

    def _experiments(self, config: Config, stage: Stage) -> Iterable[str]:
        if self.experiment is not None:
            return [name for name in config.experiments if name == self.experiment]
        # A shared cell by its name may belong to any experiment.
        is_shared = "experiment" not in stage.ids
        return config.experiments if is_shared and self.name else config.full_forms

    def _matches(self, cell: Cell) -> bool:
        return (
            self.variant in (None, cell.variant) and self.seed in (None, cell.seed) and self.name in (None, cell.name)
        )


def run_stage(
    stage: Stage,
    selection: Selection | None = None,
    *,
    configs: Sequence[Path] = (),
    force: bool = False,
    shard: str | None = None,
) -> list[Cell]:
    """Make the selected cells of one stage, or a shard I/N of each; returns the cells.

    `configs` are configuration files (default: config.yaml). Cells whose files match their recipe are left alone unless
    `force`, or the run of Snakemake forces them.

    Raises GauntletError when a cell fails, InputError when nothing is selected.
    """
    files = list(configs) or [DEFAULT_CONFIG]
    config = load(files)
    os.environ[SCRATCH] = config.execution.scratch
    selection = selection or Selection()
    cells = selection.cells(Graph(config), stage)
    if stage.shows_results and selection.name is None:
        _warn_of_stale_inputs(Staleness.of(config), cells)
    forced = Forced.from_environment()
    for cell in cells:
        # A cell made just now changes what the next one sees.
        staleness = Staleness.of(config)
        if not (force or forced.includes(cell)) and staleness.is_current(cell):
            if not stage.outdated(cell, staleness.graph.scope(cell)):
                log.info("%s: up to date", cell)
                sweep(cell)
                continue
            log.info("%s: the raw files changed since they were read", cell)
        job = staleness.job(cell)
        for folder in dict.fromkeys(path.parent for path in cell.outputs):
            require_writable(folder)
        processes = staleness.graph.processes(cell)
        if processes == 1 or not _launch_processes(cell, processes, files, force=force):
            stage.run(job, shard)
    return cells


def _launch_processes(cell: Cell, processes: int, configs: Sequence[Path], *, force: bool) -> bool:
    """Make a cell in several processes of the `gauntlet` command; False in one of these."""
    if torchrun.is_one_of_several():
        return False
    ids = [word for name, value in cell.ids.items() for word in (f"--{name}", value)]
    again = ["--force"] if force else []
    torchrun.launch([cell.stage.command, *ids, *again, "--", *map(str, configs)], processes, where=str(cell))
    return True


def _warn_of_stale_inputs(staleness: Staleness, cells: Iterable[Cell]) -> None:
    """Warn that figures, tables or a page show stale results; missing ones are an error of the stage, or left out."""
    inputs = dict.fromkeys(other for cell in cells for other in staleness.graph.upstream(cell))
    if stale := [str(cell) for cell in inputs if staleness.state(cell) is State.STALE]:
        listed = ", ".join(stale[:3]) + (", …" if len(stale) > 3 else "")
        log.warning("made from stale results: %s; the next run makes them anew", listed)
