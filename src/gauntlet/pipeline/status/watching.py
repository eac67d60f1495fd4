"""`gauntlet status --watch`: a live table on a terminal, a line per change elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.staleness import Staleness
from gauntlet.pipeline.status.cell_status import CellState
from gauntlet.pipeline.status.queue_poller import QueuePoller, jobs_by_cell
from gauntlet.pipeline.status.run_status import collect_status
from gauntlet.pipeline.status.snapshot import QueuedCell, Snapshot, as_renderable, as_text

_MAX_LOAD = 0.2
"""Largest share of the time spent on reading files: a large grid on a slow file system is read less often."""


def watch(load: Callable[[], Staleness], console: Console, *, interval_s: float, quick: bool = False) -> None:
    """Show the status of a run every `interval_s` seconds, or less often, until all is done or Ctrl-C is pressed.

    `load` reads the configuration again each time; its errors are raised at first and shown later.
    """
    watcher = _Watcher(load, QueuePoller(Path.cwd()), console, interval_s, quick)
    # Ctrl-C ends the display only: it is not an interruption of work, which would have another exit code.
    previous_handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            (watcher.show_live if console.is_terminal else watcher.print_changes)()
    finally:
        signal.signal(signal.SIGINT, previous_handler)
        watcher.queue.close()


def take_snapshot(staleness: Staleness, queue: QueuePoller, *, quick: bool = False) -> Snapshot:
    """Read files and queue once."""
    experiments = list(staleness.graph.config.experiments) if quick else staleness.requested()
    jobs_of_cell, group_jobs = jobs_by_cell(queue.poll(), staleness.graph.cells(experiments))
    active = ("RUNNING", "COMPLETING")
    running = {cell for cell, jobs in jobs_of_cell.items() if any(job.state in active for job in jobs)}
    run = collect_status(staleness, quick=quick, running=running)
    cells = tuple(QueuedCell(status, tuple(jobs_of_cell.get(status.cell, ()))) for status in run.cells)
    return Snapshot(run, cells, tuple(group_jobs), (queue.problem,) if queue.problem else ())


def changes_between(before: Snapshot, after: Snapshot) -> list[str]:
    """List the cells whose state or reason changed, and new problems."""
    previous: dict[Cell, QueuedCell] = {cell.status.cell: cell for cell in before.cells}
    changed = [cell for cell in after.cells if str(previous.get(cell.status.cell, "")) != str(cell)]
    problems = [problem for problem in after.problems if problem not in before.problems]
    return [*(f"{cell.status.cell}: {cell}" for cell in changed), *problems]


class _Watcher:
    """Repeated snapshots of a run."""

    def __init__(
        self, load: Callable[[], Staleness], queue: QueuePoller, console: Console, interval_s: float, quick: bool
    ) -> None:
        self._load, self.queue, self._console = load, queue, console
        self._interval_s = self.pause_s = interval_s
        self._quick = quick

    def show_live(self) -> None:
        """Redraw a table on a terminal until all is done."""
        snapshot = self.take()
        with Live(as_renderable(snapshot, self._console.width), console=self._console, auto_refresh=False) as live:
            while _is_unfinished(snapshot):
                time.sleep(self.pause_s)
                snapshot = self._take_again(snapshot)
                live.update(as_renderable(snapshot, self._console.width), refresh=True)

    def print_changes(self) -> None:
        """Print the table at first and at the end, and a line per change between."""
        snapshot = self.take()
        self._print(as_text(snapshot))
        while _is_unfinished(snapshot):
            time.sleep(self.pause_s)
            previous, snapshot = snapshot, self._take_again(snapshot)
            clock = time.strftime("%H:%M:%S")
            for change in changes_between(previous, snapshot):
                self._print(f"{clock} {change}")
            if not _is_unfinished(snapshot):
                self._print(as_text(snapshot))

    def take(self) -> Snapshot:
        """Take a snapshot and set the pause before the next one."""
        start_s = time.monotonic()
        snapshot = take_snapshot(self._load(), self.queue, quick=self._quick)
        self.pause_s = max(self._interval_s, (time.monotonic() - start_s) / _MAX_LOAD)
        return snapshot

    def _take_again(self, previous: Snapshot) -> Snapshot:
        """Take a snapshot; while a configuration is being edited or a file system is away, repeat the previous one."""
        try:
            return self.take()
        except (GauntletError, OSError) as error:
            self.pause_s = self._interval_s
            return Snapshot(previous.run, previous.cells, previous.group_jobs, (f"not updated: {error}",))

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def _is_unfinished(snapshot: Snapshot) -> bool:
    return any(status.state is not CellState.DONE for status in snapshot.run.cells)
