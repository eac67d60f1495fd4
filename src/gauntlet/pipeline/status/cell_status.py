"""Status of one cell: its state, the reasons for it, and the progress of the process that runs it."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gauntlet.core.files import modified_s
from gauntlet.core.progress import ProgressRecord, read_progress
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster.lock import Holder
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness, State
from gauntlet.pipeline.status import logs
from gauntlet.pipeline.status.changes import Change
from gauntlet.pipeline.status.costs import Costs
from gauntlet.pipeline.status.explanation import explain


class CellState(StrEnum):
    """State of a cell, as a user sees it."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    STALE = "stale"
    MISSING = "missing"


@dataclass(frozen=True)
class CellStatus:
    """State of a cell with its reasons.

    `changes` are what made it stale or what it waits for, `missing_files` those of its files that do not exist,
    `last_line` ends the log of a failed or running attempt, and `cost_s` is the time to run it (None if unknown). Of a
    running cell that reports progress, `share` in [0, 1] is done and `left_s` seconds are left; else they are None.
    """

    cell: Cell
    state: CellState
    changes: tuple[Change, ...] = ()
    missing_files: tuple[Path, ...] = ()
    last_line: str = ""
    cost_s: float | None = None
    share: float | None = None
    left_s: float | None = None


def work_left(statuses: Iterable[CellStatus]) -> tuple[float, int]:
    """Return the expected seconds of the cells that are not done, and how many of them have no known duration."""
    costs = [status.cost_s for status in statuses if status.state is not CellState.DONE]
    return sum(cost for cost in costs if cost is not None), costs.count(None)


def cell_status(
    staleness: Staleness, cell: Cell, costs: Costs, controller: Holder | None, *, in_queue: bool
) -> CellStatus:
    """Return the status of a cell; `in_queue` if SLURM reports a running job of it."""
    if staleness.state(cell) is State.CURRENT:
        return CellStatus(cell, CellState.DONE)
    missing_files = tuple(path for path in cell.outputs if not path.is_file())
    if missing_files:
        waiting = [maker for maker in staleness.graph.upstream(cell) if staleness.state(maker) is not State.CURRENT]
        changes = [Change("waits", str(maker)) for maker in waiting]
    else:
        changes = explain(staleness, cell)
    records = _progress_records(staleness, cell)
    attempt, last_line = _last_attempt(cell, staleness.graph.shards(cell), controller)
    if in_queue or any(record.is_alive for record in records):
        attempt = CellState.RUNNING
    share, left_s = _progress(records) if attempt is CellState.RUNNING else (None, None)
    return CellStatus(
        cell,
        attempt or (CellState.MISSING if missing_files else CellState.STALE),
        tuple(changes),
        missing_files,
        last_line if attempt else "",
        costs.of(cell),
        share,
        left_s,
    )


def _progress_records(staleness: Staleness, cell: Cell) -> list[ProgressRecord]:
    """Read the progress of the processes that run a cell or its shards."""
    shards = staleness.graph.shards(cell)
    files = {paths.progress_file(cell), *(paths.progress_file(cell, shard + 1, shards) for shard in range(shards))}
    return [record for file in files if (record := read_progress(file))]


def _progress(records: list[ProgressRecord]) -> tuple[float | None, float | None]:
    """Return the share done by the running processes of a cell, and the seconds until all of them have ended."""
    if not records:
        return None, None
    now_s = time.time()
    seconds = [left_s for record in records if (left_s := record.seconds_left(now_s)) is not None]
    total = sum(record.total for record in records)
    return sum(record.done for record in records) / max(total, 1), max(seconds, default=None)


def _last_attempt(cell: Cell, shards: int, controller: Holder | None) -> tuple[CellState | None, str]:
    """Return FAILED or RUNNING and the last line of a log of a cell or its shards that is newer than the cell's files.

    A failed shard is a failure of its cell.
    """
    files = dict.fromkeys([paths.log(cell), *(paths.log(cell, shard + 1, shards) for shard in range(shards))])
    made_s = max(map(modified_s, cell.outputs))
    written_s = {file: time_s for file in files if (time_s := modified_s(file)) > made_s}
    lines = {file: logs.last_line(file) for file in sorted(written_s, key=written_s.__getitem__, reverse=True)}
    for line in filter(logs.is_failure, lines.values()):
        return CellState.FAILED, line
    started_s = float("inf") if controller is None else _seconds_since_epoch(controller.started)
    for file, line in lines.items():
        if written_s[file] >= started_s:
            return CellState.RUNNING, line
    return None, ""


def _seconds_since_epoch(timestamp: str) -> float:
    try:
        return calendar.timegm(time.strptime(timestamp, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0.0
