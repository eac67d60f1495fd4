"""Translation of the records of Snakemake's logger to lines and a block on the terminal."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from gauntlet.core.processes import cpu_seconds
from gauntlet.pipeline import paths
from gauntlet.pipeline.display import text
from gauntlet.pipeline.display.jobs import CellsJob
from gauntlet.pipeline.display.screen import Screen, ScreenStream
from gauntlet.pipeline.display.tally import Failure, RunTally
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.status import logs
from gauntlet.pipeline.status.formatting import format_duration

_NOISE = ("Assuming unrestricted shared filesystem", "Restored previous version of", "Cannot restore ")
"""First words of messages about what Snakemake always does here: outputs of failed jobs are kept."""

_FINISHING, _TERMINATING = "Will exit after finishing", "Terminating processes"

_SHOWN_MESSAGES = ("Nothing to be done", _FINISHING, _TERMINATING, "Shutting down")
"""First words of the messages of a run, below warnings, that are shown, each once."""

_REPEATED_ERRORS = (
    "RuleException:\nCalledProcessError in file",
    "Exiting because a job execution failed.",
    "WorkflowError:\nAt least one job did not complete successfully.",
)
"""Errors that repeat that jobs failed, which is shown by the names of their cells."""

_IGNORED = frozenset(
    {
        LogEvent.JOB_STARTED,
        LogEvent.GROUP_INFO,
        LogEvent.GROUP_ERROR,
        LogEvent.PROGRESS,
        LogEvent.RULEGRAPH,
        LogEvent.RUN_INFO,
    }
)
_LOG_LINES = 20
_TICK_S, _REDRAW_S = 0.2, 1.0
_CLOCK_TICK_S = 0.02
"""The kernel stamps files with a clock that lags by up to a tick of 1 to 10 ms: a file may look older than it is."""


class RunDisplay:
    """Display of one run: a block on a terminal (`is_live`), a line per event elsewhere.

    Errors, warnings and what Snakemake writes outside a run go to `other`, Snakemake's own handler on the same screen.
    Lines of events are left out if `is_quiet`; `tail` shows the end of the log of a cell that failed; `is_verbose`
    passes on every message, `shows_commands` the shell commands.
    """

    def __init__(
        self,
        screen: Screen,
        other: logging.Handler,
        style: text.Style,
        *,
        is_live: bool,
        is_quiet: bool = False,
        is_verbose: bool = False,
        shows_commands: bool = False,
        tail: bool = True,
    ) -> None:
        self._screen, self._other, self._style = screen, other, style
        self._is_live, self._is_quiet, self._is_verbose = is_live, is_quiet, is_verbose
        self._shows_commands, self._tail = shows_commands, tail
        self._tally, self._lock = RunTally(), threading.RLock()
        self._begun_s: float | None = None
        self._is_remote = self._is_stopped = self._is_terminating = False
        self._shown_logs: set[str] = set()
        self._shown_messages: set[str] = set()
        self._streams: tuple[Any, Any] | None = None
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self._is_dirty = False

    def describe(
        self,
        jobs: Sequence[CellsJob],
        current: int,
        cost: Callable[[Cell], float | None],
        upstream: Callable[[Cell], Iterable[Cell]],
    ) -> None:
        """Set the work of the run; see `RunTally.plan`."""
        with self._lock:
            self._tally.plan(jobs, current, cost, upstream)

    def handle(self, record: logging.LogRecord) -> None:
        """Show a record of Snakemake's logger."""
        event = getattr(record, "event", None)
        with self._lock:
            match event:
                case LogEvent.WORKFLOW_STARTED:
                    self._begin()
                case LogEvent.RESOURCES_INFO:
                    self._is_remote |= hasattr(record, "nodes")
                case LogEvent.JOB_INFO:
                    self._start(record)
                case LogEvent.JOB_FINISHED:
                    self._finish(record.job_id)  # type: ignore[attr-defined]
                case LogEvent.JOB_ERROR:
                    self._fail(record)
                case LogEvent.SHELLCMD:
                    if self._shows_commands:
                        # Snakemake's own handler would not show it with the profiles' `quiet`.
                        self._screen.print(f"    {record.getMessage()}")
                case LogEvent.DEBUG_DAG:
                    self._other.handle(record)
                case _ if event not in _IGNORED:
                    self._pass_on(record)
            self._is_dirty = True

    def draw(self) -> None:
        """Draw the block of this moment."""
        with self._lock:
            self._screen.draw(self._block(time.monotonic()))

    def end(self) -> None:
        """Stop drawing, and print the summary of a run that started a job."""
        self._ended.set()
        if self._ticker:
            self._ticker.join()
        with self._lock:
            self._screen.end()
            if self._streams:
                sys.stdout, sys.stderr = self._streams
                self._streams = None
            if self._tally.start_s is not None:
                if not self._is_stopped:
                    self._end_unreported()
                cpu_s = None if self._is_remote else cpu_seconds()
                is_stopped = self._is_stopped and self._tally.done.total() < self._tally.cells
                lines = text.summary(self._tally, time.monotonic(), cpu_s, self._style, is_stopped=is_stopped)
                self._screen.print("\n".join(lines))
                self._tally.start_s = None

    def _begin(self) -> None:
        if self._begun_s is not None:
            return
        self._begun_s = time.monotonic()
        if not self._is_live:
            return
        # What the Snakefile and the libraries print appears above the block.
        self._streams = (sys.stdout, sys.stderr)
        above: Any = ScreenStream(self._screen)
        if sys.stdout.isatty():
            sys.stdout = above
        sys.stderr = above
        self._ticker = threading.Thread(target=self._redraw_regularly, name="display", daemon=True)
        self._ticker.start()

    def _redraw_regularly(self) -> None:
        """Redraw the block once a second, and sooner after events, but not once per event."""
        drawn_s = 0.0
        while not self._ended.wait(_TICK_S):
            now_s = time.monotonic()
            if self._is_dirty or now_s - drawn_s >= _REDRAW_S:
                drawn_s, self._is_dirty = now_s, False
                self.draw()

    def _block(self, now_s: float) -> list[str]:
        if self._tally.start_s is None:
            return text.planning_block(now_s - (self._begun_s or now_s))
        if self._is_quiet:
            return []
        verb = "submitted" if self._is_remote else "running"
        return text.block(self._tally, now_s, self._screen.size, self._style, verb=verb)

    def _start(self, record: Any) -> None:
        job = CellsJob.of(record.rule_name, record.wildcards)
        if job is None:
            return
        attempt = self._tally.start(record.jobid, job, time.monotonic())
        verb = "submitted" if self._is_remote and not record.local else "started"
        self._print_event(job, f"{verb} again, attempt {attempt.number}" if attempt.number > 1 else verb)

    def _finish(self, number: int) -> None:
        attempt = self._tally.running.get(number)
        if attempt is None:
            return
        # The log of a cell in shards is that of the job which gathers them.
        last_line = "" if attempt.job.shard else logs.last_line(paths.log(attempt.job.cell))
        up_to_date = last_line.endswith(": up to date")
        seconds = self._tally.finish(number, time.monotonic(), up_to_date=up_to_date)
        what = "up to date" if up_to_date else f"done, {format_duration(seconds)}"
        self._print_event(attempt.job, what + text.progress_note(self._tally))

    def _fail(self, record: Any) -> None:
        attempt = self._tally.running.get(record.jobid)
        # A job that Ctrl-C ended has not failed.
        if attempt is None or self._is_terminating:
            return
        now_s, job = time.monotonic(), attempt.job
        file = next(iter(record.log), "")
        last_line = logs.last_line(Path(file)) if file else ""
        has_failed = logs.is_failure(last_line)
        if record.indent and not has_failed and _is_written_since(job, now_s - attempt.start_s):
            # The job group failed; this cell of it is made.
            self._finish(record.jobid)
            return
        reported = (record.rule_msg or "").strip().split("\n")[0]
        reason = last_line if has_failed or not reported else reported
        failure = Failure(job, reason, file)
        self._tally.fail(record.jobid, failure, now_s)
        self._print_event(job, f"failed: {text.failure_text(failure)}", color="red", always=True)
        if self._tail and file and file not in self._shown_logs:
            self._shown_logs.add(file)
            lines = logs.last_lines(Path(file), _LOG_LINES)
            # A log of one line has been shown.
            if len(lines) > 1:
                self._screen.print(text.indented(lines))

    def _end_unreported(self) -> None:
        """Count the jobs whose end was not reported.

        With `--quiet progress` Snakemake reports no job that ended well. Otherwise it refused the files of such a job,
        which has failed.
        """
        for number, attempt in list(self._tally.running.items()):
            now_s = time.monotonic()
            if self._is_quiet and _is_written_since(attempt.job, now_s - attempt.start_s):
                self._finish(number)
            else:
                self._tally.fail(number, Failure(attempt.job, "Snakemake's message is above", ""), now_s)

    def _print_event(self, job: CellsJob, change: str, *, color: str = "", always: bool = False) -> None:
        """Print the line of an event; on a terminal only of a failure, and where a job starts again."""
        if always or not (self._is_quiet or (self._is_live and "again" not in change)):
            line = text.event_line(time.strftime("%H:%M:%S"), job, change)
            self._screen.print(self._style.paint(line, color) if color else line)

    def _pass_on(self, record: logging.LogRecord) -> None:
        """Show a message that is not about a job."""
        message = record.getMessage()
        if message.startswith(_NOISE) and not self._is_verbose:
            return
        if self._begun_s is not None and not self._is_verbose:
            if message.startswith(_REPEATED_ERRORS) and (self._is_stopped or self._tally.start_s is not None):
                return
            # After failures Snakemake's own log is of interest.
            is_shown = message.startswith(_SHOWN_MESSAGES) or (
                self._tally.failed and message.startswith("Complete log")
            )
            if record.levelno < logging.WARNING and (not is_shown or message in self._shown_messages):
                return
            self._shown_messages.add(message)
        self._is_stopped |= message.startswith((_FINISHING, _TERMINATING))
        self._is_terminating |= message.startswith(_TERMINATING)
        self._other.handle(record)


def _is_written_since(job: CellsJob, seconds: float) -> bool:
    """Return whether a cell's first file is at most `seconds` old; Snakemake touches the files of finished jobs."""
    try:
        return job.cell.outputs[0].stat().st_mtime >= time.time() - seconds - _CLOCK_TICK_S
    except OSError:
        return False
