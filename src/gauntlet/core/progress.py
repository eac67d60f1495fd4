"""Progress of long steps: a bar on a terminal, log lines elsewhere, and a JSON record for other processes to read."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from gauntlet.core.processes import ProcessIdentity

log = logging.getLogger("gauntlet")


class Progress(Protocol):
    """Receiver of a step's progress."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Add `amount` finished units; `note` is a short state such as a loss."""
        ...

    def resume(self, done: int) -> None:
        """Begin again with `done` units that an earlier attempt finished: they took no time of this one."""
        ...


class NullProgress:
    """Progress that is not reported, for library use and tests."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Ignore the progress."""

    def resume(self, done: int) -> None:
        """Ignore it too."""


@contextmanager
def progress(title: str, total: int, unit: str, *, done: int = 0, file: Path | None = None) -> Iterator[Progress]:
    """Report a step of `total` units on standard error and in `file`, which is removed at the end.

    `done` units were finished by an earlier attempt.
    """
    record = None if file is None else _RecordWriter(file, total, unit, done)
    try:
        with _display(title, total, unit, done) as display:
            yield display if record is None else _Both(display, record)
    finally:
        if record is not None:
            record.remove()


class ProgressRecord(ProcessIdentity):
    """The progress of a running process: `done` of `total` units, `resumed` of them finished by an earlier attempt.

    The process wrote the record at `time_s` (since 1970), `seconds` after it had begun the step.
    """

    done: int
    total: int
    unit: str
    resumed: int
    seconds: float
    time_s: float

    def seconds_left(self, now_s: float) -> float | None:
        """Estimate the remaining seconds at time `now_s`; None before the first unit is finished."""
        finished = self.done - self.resumed
        if finished <= 0:
            return None
        return max(0.0, self.seconds / finished * (self.total - self.done) - max(0.0, now_s - self.time_s))


def read_progress(file: Path) -> ProgressRecord | None:
    """Read the record of a process; None if it is missing or damaged, or its process is known to have ended."""
    try:
        record = ProgressRecord.model_validate_json(file.read_bytes())
    except (OSError, ValueError):
        return None
    return None if record.is_alive is False else record


class _RecordWriter:
    """Writer of a progress record, at most once every `interval_s` seconds.

    Progress is no result: the record is not synced, and a folder that cannot be written is ignored. A fork of the
    process writes nothing.
    """

    def __init__(self, file: Path, total: int, unit: str, done: int, *, interval_s: float = 1.0) -> None:
        self._file, self._interval_s = file, interval_s
        self._start_s = self._written_s = time.monotonic()
        self._record = ProgressRecord.current(
            done=done, total=total, unit=unit, resumed=done, seconds=0.0, time_s=time.time()
        )
        self._write()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count, and write the record if it is due."""
        now_s = time.monotonic()
        update = {"done": self._record.done + amount, "seconds": now_s - self._start_s, "time_s": time.time()}
        self._record = self._record.model_copy(update=update)
        if now_s - self._written_s >= self._interval_s:
            self._written_s = now_s
            self._write()

    def resume(self, done: int) -> None:
        """Begin again, and write the record."""
        self._start_s = time.monotonic()
        self._record = self._record.model_copy(update={"done": done, "resumed": done, "seconds": 0.0})
        self._write()

    def remove(self) -> None:
        """Remove the record."""
        if os.getpid() == self._record.pid:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _write(self) -> None:
        if os.getpid() != self._record.pid:
            return
        draft = self._file.with_name(f".{self._file.name}.{self._record.host}.{self._record.pid}")
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(self._record.model_dump_json(), encoding="utf-8")
            draft.replace(self._file)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


class _LogLines:
    """Log lines at the end and at most every `interval_s` seconds before."""

    def __init__(self, title: str, total: int, unit: str, done: int, *, interval_s: float = 10.0) -> None:
        self._title, self._total, self._unit, self._interval_s = title, total, unit, interval_s
        self._done = self._resumed = done
        self._start_s = self._logged_s = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count, and write a line if it is due."""
        self._done += amount
        now_s = time.monotonic()
        if self._done < self._total and now_s - self._logged_s < self._interval_s:
            return
        self._logged_s = now_s
        finished = max(self._done - self._resumed, 1)
        left_s = (now_s - self._start_s) / finished * (self._total - self._done)
        suffix = f", {note}" if note else ""
        log.info("%s: %d/%d %s, %.0f s left%s", self._title, self._done, self._total, self._unit, left_s, suffix)

    def resume(self, done: int) -> None:
        """Begin again."""
        self._done = self._resumed = done
        self._start_s = time.monotonic()


class _Both:
    """Progress that is passed on to two receivers."""

    def __init__(self, first: Progress, second: Progress) -> None:
        self._first, self._second = first, second

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Advance both."""
        self._first.advance(amount, note)
        self._second.advance(amount, note)

    def resume(self, done: int) -> None:
        """Resume both."""
        self._first.resume(done)
        self._second.resume(done)


@contextmanager
def _display(title: str, total: int, unit: str, done: int) -> Iterator[Progress]:
    """Show progress on standard error: a bar on a terminal, log lines elsewhere."""
    if not sys.stderr.isatty():
        yield _LogLines(title, total, unit, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task(title, total=total, completed=done, note="")

        class Bar:
            def advance(self, amount: int = 1, note: str = "") -> None:
                bars.update(task, advance=amount, note=note)

            def resume(self, done: int) -> None:
                bars.reset(task, completed=done, note="")

        yield Bar()
