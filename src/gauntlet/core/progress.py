"""Progress of long steps: a bar where a person is looking, plain log lines with rate and time left where not."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger("gauntlet")


class Progress(Protocol):
    """What a long step reports to."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Say that `amount` more of the announced total is done; `note` is a short state such as a loss."""
        ...


class NullProgress:
    """Reports nothing: for library use and tests."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Report nothing."""


class LogLines:
    """Writes a log line at the start, the end, and at most every `interval_s` seconds between."""

    def __init__(self, title: str, total: int, unit: str, *, interval_s: float = 10.0) -> None:
        self.title, self.total, self.unit, self.interval_s = title, total, unit, interval_s
        self.done = 0
        self.start_s = self.last_s = time.monotonic()

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count, and write a line when it is time."""
        self.done += amount
        now_s = time.monotonic()
        if self.done < self.total and now_s - self.last_s < self.interval_s:
            return
        self.last_s = now_s
        elapsed_s = now_s - self.start_s
        left_s = elapsed_s / max(self.done, 1) * (self.total - self.done)
        tail = f", {note}" if note else ""
        log.info("%s: %d/%d %s, %.0f s left%s", self.title, self.done, self.total, self.unit, left_s, tail)


_LINE = re.compile(r".*: (\d+)/(\d+) \w+, (\d+) s left(, .*)?")


@dataclass(frozen=True)
class Told:
    """What a line of `LogLines` says: how much of how much is done, and how many seconds the rest will take."""

    done: int
    total: int
    left_s: float


def last_told(lines: Iterable[str]) -> Told | None:
    """Find the last line of a log that tells of progress; None where there is none."""
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    return Told(int(found[-1][1]), int(found[-1][2]), float(found[-1][3])) if found else None


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Report a step of `total` units on standard error: a bar on a terminal, log lines elsewhere."""
    if not sys.stderr.isatty():
        yield LogLines(title, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        task = bars.add_task(title, total=total, note="")

        class Bar:
            def advance(self, amount: int = 1, note: str = "") -> None:
                bars.update(task, advance=amount, note=note)

        yield Bar()
