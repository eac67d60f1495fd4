"""Signals that ask a process to stop: an orderly exit, or, where work can be kept, a note to stop soon."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from gauntlet.core.errors import Interrupted

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""The signals that ask for a stop: of a workload manager, of a person, of a job near its time limit."""

GOES_ON = "the same command goes on from there"


class StopRequest:
    """Notes a signal instead of dying of it, so that the step or part at hand can be finished and kept.

    Work under this context looks at `requested` between its steps, writes what it has, and raises `interruption`. Work
    that does not come round within `grace_s` seconds of the signal gets Interrupted raised in its midst. A second
    SIGINT kills at once. A signal that came too late to be acted on is sent again when the context is left. Outside the
    main thread, where signals cannot be caught, nothing is ever requested.
    """

    def __init__(self, where: str = "", *, grace_s: float = 20.0) -> None:
        self.where, self.grace_s = where, grace_s
        self.received: signal.Signals | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has asked for a stop."""
        return self.received is not None

    def interruption(self, kept: str) -> Interrupted:
        """Make the error to raise; `kept` says what is on disk."""
        name = self.received.name if self.received else "a request"
        return Interrupted(f"stopped by {name}; {kept}", where=self.where, remedy=GOES_ON)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._overdue)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._before:
            return
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.received is not None and kind is None:
            os.kill(os.getpid(), self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += number == signal.SIGINT
        if self._interrupts > 1:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        if self.received is None:
            self.received = signal.Signals(number)
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        raise self.interruption("the work at hand was left, what was finished before it is kept")


@contextmanager
def orderly_exit() -> Iterator[None]:
    """Let a request to stop end the process with the exit code of Interrupted; files in the making are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Neither print nor logging may be entered twice, and this may run inside of either.
        os.write(2, f"gauntlet: stopped by {signal.Signals(number).name}; {GOES_ON}\n".encode())
        # No Exception: code that catches whatever an import or an attack raises must not swallow this.
        raise SystemExit(Interrupted.exit_code)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
