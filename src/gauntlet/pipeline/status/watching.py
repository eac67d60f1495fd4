"""Looking again and again where a run stands, gently: a live table on a terminal, a line per change elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.live import Live

from gauntlet.config.grid import Cell
from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.staleness import Plan
from gauntlet.pipeline.status.board import Board, Standing, coloured, plain
from gauntlet.pipeline.status.cell_states import Progress, survey
from gauntlet.pipeline.status.job_queue import Queue, of_cells

_LOOKING_SHARE = 0.2
"""Looking takes at most this share of the time: a large grid on a slow file system is looked at less often."""


def watch(make_plan: Callable[[], Plan], console: Console, *, interval_s: float, quick: bool = False) -> None:
    """Show where a run stands, looking every `interval_s` seconds, until all is done or Ctrl-C is pressed.

    A grid that takes long to look at is looked at less often. `make_plan` reads the configuration anew; what is wrong
    with it is raised at first, and shown later.
    """
    queue = Queue(Path.cwd())
    # Whoever has seen enough has not interrupted any work.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            (_live if console.is_terminal else _told)(make_plan, queue, console, interval_s, quick)
    finally:
        signal.signal(signal.SIGINT, before)
        queue.close()


def look(plan: Plan, queue: Queue, *, quick: bool = False) -> Board:
    """Look at files and queue once."""
    experiments = list(plan.config.experiments) if quick else plan.asked_for()
    jobs, others = of_cells(queue.look(), plan.cells(experiments))
    running = {cell for cell, found in jobs.items() if any(job.state in ("RUNNING", "COMPLETING") for job in found)}
    found = survey(plan, quick=quick, running=running)
    standings = tuple(Standing(status, tuple(jobs.get(status.cell, ()))) for status in found.cells)
    return Board(found, standings, tuple(others), (queue.problem,) if queue.problem else ())


def _live(make_plan: Callable[[], Plan], queue: Queue, console: Console, interval_s: float, quick: bool) -> None:
    board, pause_s = _timed(make_plan, queue, interval_s, quick)
    with Live(coloured(board, console.width), console=console, auto_refresh=False) as live:
        while _is_unfinished(board):
            time.sleep(pause_s)
            board, pause_s = _again(board, make_plan, queue, interval_s, quick)
            live.update(coloured(board, console.width), refresh=True)


def _told(make_plan: Callable[[], Plan], queue: Queue, console: Console, interval_s: float, quick: bool) -> None:
    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    board, pause_s = _timed(make_plan, queue, interval_s, quick)
    say(plain(board))
    while _is_unfinished(board):
        time.sleep(pause_s)
        before, (board, pause_s) = board, _again(board, make_plan, queue, interval_s, quick)
        at = time.strftime("%H:%M:%S")
        for change in changes(before, board):
            say(f"{at} {change}")
        if not _is_unfinished(board):
            say(plain(board))


def changes(before: Board, after: Board) -> list[str]:
    """Say of each cell that stands otherwise than before how it stands now, and what could no longer be found out."""
    was: dict[Cell, Standing] = {one.status.cell: one for one in before.standings}
    told = [one for one in after.standings if str(was.get(one.status.cell, "")) != str(one)]
    problems = [problem for problem in after.problems if problem not in before.problems]
    return [*(f"{one.status.cell}: {one}" for one in told), *problems]


def _is_unfinished(board: Board) -> bool:
    return any(status.progress is not Progress.DONE for status in board.survey.cells)


def _timed(make_plan: Callable[[], Plan], queue: Queue, interval_s: float, quick: bool) -> tuple[Board, float]:
    """Look, and say how long to wait before looking again."""
    start_s = time.monotonic()
    board = look(make_plan(), queue, quick=quick)
    return board, max(interval_s, (time.monotonic() - start_s) / _LOOKING_SHARE)


def _again(
    board: Board, make_plan: Callable[[], Plan], queue: Queue, interval_s: float, quick: bool
) -> tuple[Board, float]:
    """Look again; a configuration that is being edited, or a file system that is away, is shown and waited for."""
    try:
        return _timed(make_plan, queue, interval_s, quick)
    except (GauntletError, OSError) as error:
        return Board(board.survey, board.standings, board.others, (f"as before, since: {error}",)), interval_s
