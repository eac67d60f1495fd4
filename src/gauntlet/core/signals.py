"""Signals that stop a process: an orderly exit or, where work can be saved, a request that the work polls."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Self

from gauntlet.core.errors import Interrupted

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""Signals that request a stop: from a workload manager, from a person, from a job near its time limit."""

_REMEDY = "the same command continues from there"


class StopRequest:
    """A stop that a signal requests and the work carries out, so that the current step or part is finished and saved.

    Work in this context polls `requested` between its steps, saves what it has, and raises `interruption`. If it has
    not done so `grace_s` seconds after the signal, Interrupted is raised wherever it is. A second SIGINT kills at once.
    A signal that the work did not see is sent again when the context is left. Outside the main thread, where signals
    cannot be caught, nothing is ever requested.
    """

    def __init__(self, where: str = "", *, grace_s: float = 20.0) -> None:
        self.where, self.grace_s = where, grace_s
        self.received: signal.Signals | None = None
        self._interrupts = 0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        """True after a signal has requested a stop."""
        return self.received is not None

    def interruption(self, saved: str) -> Interrupted:
        """Return the error to raise; `saved` describes what is on disk."""
        name = self.received.name if self.received else "a request"
        return Interrupted(f"stopped by {name}; {saved}", where=self.where, remedy=_REMEDY)

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
        raise self.interruption("the current step was abandoned, all steps before it are saved")


def handle_in_thread(number: signal.Signals) -> None:
    """Run the present handler of a signal in a thread of its own from now on, where it may wait for a lock.

    A handler runs in the main thread, between two of its instructions. One that acquires a lock which the main thread
    holds waits forever: Snakemake's for SIGTERM does so.
    """
    handler = signal.getsignal(number)
    if callable(handler):
        start = partial(threading.Thread, target=handler, daemon=True)
        signal.signal(number, lambda *arguments: start(args=arguments).start())


@contextmanager
def orderly_exit() -> Iterator[None]:
    """End the process on a signal with the exit code of Interrupted; files being written are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Neither print nor logging is reentrant, and the signal may arrive inside of either.
        os.write(2, f"gauntlet: stopped by {signal.Signals(number).name}; {_REMEDY}\n".encode())
        # Not an Exception: code that catches all errors of an import or an attack must not swallow this.
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
