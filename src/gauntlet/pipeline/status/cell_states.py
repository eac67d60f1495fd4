"""The state of every cell of a plan, and why; only files of cells that are not done are opened beyond their marks."""

from __future__ import annotations

import calendar
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gauntlet.config.grid import Cell
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import GauntletError
from gauntlet.core.progress import last_told
from gauntlet.core.provenance.environment import environment, environment_digest
from gauntlet.core.provenance.recipes import PACKAGES_KEY, recipe_from
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.staleness import Plan, State
from gauntlet.pipeline.status import logs as records
from gauntlet.pipeline.status.changes import ABSENT, Change, compare
from gauntlet.pipeline.status.costs import Costs


class Progress(StrEnum):
    """Where a cell stands, as a user asks."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True)
class CellStatus:
    """Where one cell stands.

    `changes` says what made it stale or what it waits for, `lacking` which of its files are missing, `last_line` what
    the log of its last attempt ends with where that failed or runs, `cost_s` what making it takes (None: unknown).
    Of a running cell `share` in [0, 1] is done and `left_s` seconds are left, as its log tells (None: it does not).
    """

    cell: Cell
    progress: Progress
    changes: tuple[Change, ...] = ()
    lacking: tuple[Path, ...] = ()
    last_line: str = ""
    cost_s: float | None = None
    share: float | None = None
    left_s: float | None = None


@dataclass(frozen=True)
class OtherEnvironment:
    """Done cells that were made in one environment that is not the present one; `changes` is empty if unknown how."""

    cells: int
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Survey:
    """The state of a whole configuration."""

    cells: tuple[CellStatus, ...]
    environments: tuple[OtherEnvironment, ...] = ()
    controller: lock.Holder | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def having(self, *progress: Progress) -> list[CellStatus]:
        """List the cells in given states."""
        return [status for status in self.cells if status.progress in progress]


def survey(plan: Plan, *, quick: bool = False, running: Collection[Cell] = ()) -> Survey:
    """Say of every cell of a plan where it stands and why. Nothing is written.

    Quick forms that were not begun are wanted by nobody: they are left out, unless `quick` asks for them. `running` are
    cells known to run, whatever their logs say; none of them is done.
    """
    controller = _controller()
    costs = Costs(plan)
    experiments = list(plan.config.experiments) if quick else plan.asked_for()
    cells = tuple(_status(plan, cell, costs, controller, cell in running) for cell in plan.cells(experiments))
    tolerant = [name for name in experiments if plan.experiment(name).allow_missing]
    left_out = {name: count for name in tolerant if (count := len(plan.left_out(name)))}
    return Survey(cells, tuple(_environments(plan, experiments)), controller, left_out)


def explain(plan: Plan, cell: Cell) -> list[Change]:
    """Say why a cell that has all its files is stale."""
    found = [Change("waits", str(maker)) for maker in plan.upstream(cell) if plan.state(maker) is not State.CURRENT]
    known = plan.recipe(cell) is not None
    present = plan.outline(cell)
    others = plan.foreign(cell)
    if known and not others:
        return found
    # The file whose string says what made them all tells most.
    primary = paths.products(cell)[0]
    told = primary if primary in others else next((path for path in others if path.suffix != ".json"), primary)
    before = recipe_from(records.metadata(told))
    if before is not None and before.as_dict() != present.as_dict():
        differing = compare(before, present, cell, _experiment(plan, cell), every_input=known)
        return [*differing, *found] if differing or found else [_unexplained(told)]
    if not known:
        return found
    if before is None:
        return [_unmarked(plan, told, cell), *found]
    return [Change("unknown", f"{path} does not belong to the other files") for path in others] + found


def _status(plan: Plan, cell: Cell, costs: Costs, controller: lock.Holder | None, is_running: bool) -> CellStatus:
    state = plan.state(cell)
    if state is State.CURRENT:
        return CellStatus(cell, Progress.DONE)
    lacking = tuple(path for path in paths.products(cell) if not path.is_file())
    if lacking:
        waiting = [maker for maker in plan.upstream(cell) if plan.state(maker) is not State.CURRENT]
        changes = [Change("waits", str(maker)) for maker in waiting]
    else:
        changes = explain(plan, cell)
    attempt, line = _attempt(cell, controller)
    attempt = Progress.RUNNING if is_running else attempt
    progress = attempt or (Progress.MISSING if lacking else Progress.STALE)
    share, left_s = _share(cell) if attempt is Progress.RUNNING else (None, None)
    return CellStatus(cell, progress, tuple(changes), lacking, line if attempt else "", costs.of(cell), share, left_s)


def _share(cell: Cell) -> tuple[float | None, float | None]:
    """Read from a running cell's log which share of it is done, and how many seconds are left now."""
    log = paths.log(cell)
    told = last_told(records.last_lines(log))
    try:
        age_s = time.time() - log.stat().st_mtime
    except OSError:
        return None, None
    return (None, None) if told is None else (told.done / max(told.total, 1), max(0.0, told.left_s - max(0.0, age_s)))


def _attempt(cell: Cell, controller: lock.Holder | None) -> tuple[Progress | None, str]:
    """Tell from a cell's log, if that is newer than its files, whether the last attempt failed or goes on."""
    log = paths.log(cell)
    try:
        written_s = log.stat().st_mtime
    except OSError:
        return None, ""
    made_s = [path.stat().st_mtime for path in paths.products(cell) if path.is_file()]
    if written_s <= max(made_s, default=0.0):
        return None, ""
    line = records.last_line(log)
    if records.failure(line):
        return Progress.FAILED, line
    if controller is not None and written_s >= _seconds_of(controller.started):
        return Progress.RUNNING, line
    return None, ""


def _seconds_of(stamp: str) -> float:
    try:
        return calendar.timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0.0


def _controller() -> lock.Holder | None:
    """Find the run that works on the results, unless it is known to be dead."""
    try:
        holder = lock.holder(paths.RESULTS)
    except GauntletError:
        return None
    return None if holder is None or holder.is_dead else holder


def _experiment(plan: Plan, cell: Cell) -> Experiment | None:
    return plan.experiment(cell.experiment) if cell.experiment else None


def _unmarked(plan: Plan, path: Path, cell: Cell) -> Change:
    if plan.marks(path).cell is None:
        return Change("unknown", f"{path} does not say what made it")
    if path.suffix in (".parquet", ".safetensors"):
        return Change("unknown", f"{path} was made otherwise, and does not say how")
    return Change("unknown", "made from other inputs, settings or code")


def _unexplained(path: Path) -> Change:
    return Change("unknown", f"{path} was made otherwise")


def _environments(plan: Plan, experiments: Iterable[str]) -> Iterator[OtherEnvironment]:
    """Group the done cells by the environments, other than the present one, that made them."""
    here = environment_digest()
    counts: Counter[str] = Counter()
    example: dict[str, Path] = {}
    for cell in plan.cells(experiments):
        if plan.state(cell) is State.CURRENT:
            path = paths.products(cell)[0]
            made_in = plan.marks(path).environment
            if made_in not in (None, here):
                counts[str(made_in)] += 1
                example.setdefault(str(made_in), path)
    for digest, count in counts.most_common():
        yield OtherEnvironment(count, tuple(_environment_changes(example[digest])))


def _environment_changes(path: Path) -> Iterator[Change]:
    try:
        before = dict(json.loads(records.metadata(path)[PACKAGES_KEY]))
    except (KeyError, ValueError, TypeError):
        return
    after = environment()
    for name in [*after, *(name for name in before if name not in after)]:
        was, now = before.get(name, ABSENT), after.get(name, ABSENT)
        if was != now:
            yield Change("environment", name, was, now)
