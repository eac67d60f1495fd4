"""Status of all cells of a run; files are read beyond their marks only for cells that are not done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from gauntlet.core.errors import GauntletError
from gauntlet.core.provenance.environment import environment, environment_digest
from gauntlet.core.provenance.recipes import PACKAGES_KEY
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness, State
from gauntlet.pipeline.status.cell_status import CellState, CellStatus, cell_status
from gauntlet.pipeline.status.changes import ABSENT, Change
from gauntlet.pipeline.status.costs import Costs
from gauntlet.pipeline.status.metadata import file_metadata

_PACKAGES = TypeAdapter(dict[str, str])


@dataclass(frozen=True)
class OtherEnvironment:
    """Number of done cells that another environment made; `changes` is empty if it is unknown how it differs."""

    cells: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class RunStatus:
    """Status of all cells, other environments, the running controller, and the cells that aggregation leaves out."""

    cells: tuple[CellStatus, ...]
    environments: tuple[OtherEnvironment, ...] = ()
    controller: lock.Holder | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def in_state(self, *states: CellState) -> list[CellStatus]:
        """List the cells in any of some states."""
        return [status for status in self.cells if status.state in states]

    def by_stage(self) -> dict[str, list[CellStatus]]:
        """Group the cells by stage."""
        groups: dict[str, list[CellStatus]] = {}
        for status in self.cells:
            groups.setdefault(status.cell.stage.name, []).append(status)
        return groups


def collect_status(staleness: Staleness, *, quick: bool = False, running: Collection[Cell] = ()) -> RunStatus:
    """Collect the status of every cell of a configuration. Nothing is written.

    Quick forms that were not begun are left out without `quick`. `running` are cells that SLURM reports as running.
    """
    controller = _live_controller()
    costs = Costs(staleness)
    experiments = list(staleness.graph.config.experiments) if quick else staleness.requested()
    cells = [
        cell_status(staleness, cell, costs, controller, in_queue=cell in running)
        for cell in staleness.graph.cells(experiments)
    ]
    tolerant = [name for name in experiments if staleness.graph.experiment(name).allow_missing]
    left_out = {name: count for name in tolerant if (count := len(staleness.left_out(name)))}
    return RunStatus(tuple(cells), tuple(_other_environments(staleness, experiments)), controller, left_out)


def _live_controller() -> lock.Holder | None:
    """Return the holder of the results folder's lock, unless it is known to be dead."""
    try:
        holder = lock.holder(paths.RESULTS)
    except GauntletError:
        return None
    return None if holder is None or holder.is_dead else holder


def _other_environments(staleness: Staleness, experiments: Iterable[str]) -> Iterator[OtherEnvironment]:
    """Group the done cells by environment, without the current one."""
    current = environment_digest()
    counts: Counter[str] = Counter()
    example: dict[str, Path] = {}
    for cell in staleness.graph.cells(experiments):
        if staleness.state(cell) is State.CURRENT:
            path = cell.outputs[0]
            digest = staleness.marks(path).environment
            if digest not in (None, current):
                counts[str(digest)] += 1
                example.setdefault(str(digest), path)
    for digest, count in counts.most_common():
        yield OtherEnvironment(count, tuple(_environment_changes(example[digest])))


def _environment_changes(path: Path) -> Iterator[Change]:
    try:
        stored = _PACKAGES.validate_json(file_metadata(path)[PACKAGES_KEY])
    except (KeyError, ValueError):
        return
    current = environment()
    for name in [*current, *(name for name in stored if name not in current)]:
        before, after = stored.get(name, ABSENT), current.get(name, ABSENT)
        if before != after:
            yield Change("environment", name, before, after)
