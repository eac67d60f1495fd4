"""Several processes for one cell on this machine, started by torchrun; this module loads no torch."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from gauntlet.core.errors import GauntletError
from gauntlet.core.signals import StopRequest
from gauntlet.core.user_modules import SAFE_PATH

log = logging.getLogger("gauntlet")

PREFIX = "gauntlet: "
"""Prefix of the message of a failed process."""

_SECONDARY = "another process of this training ended"
_RESTART = "the next start computes fewer images at a time"
_GRACE_S = 60.0


def is_one_of_several(environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process is one of several: started by torchrun, or by srun in a step of several tasks."""
    return "WORLD_SIZE" in environ or int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def launch(arguments: Sequence[str], processes: int, *, where: str) -> None:
    """Run the `gauntlet` command in several processes until all have ended.

    They are started again when one has recorded that it needs less memory. A request to stop is passed on. Raises
    GauntletError with the message of the process that failed first, after torchrun has ended the others; Interrupted at
    a request to stop.
    """
    while problem := _run(arguments, processes, where=where):
        if _RESTART not in problem:
            raise GauntletError(problem)
        log.warning("%s: %s", where, problem)


def _run(arguments: Sequence[str], processes: int, *, where: str) -> str | None:
    """Run the processes once, and return the message of the one that failed first; None if none failed."""
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environ = {**os.environ, **SAFE_PATH}
    if threads := environ.get("OMP_NUM_THREADS"):
        environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(max(1, int(threads) // processes)))
    messages: list[str] = []
    with StopRequest(where, grace_s=_GRACE_S) as stop:
        # A session of its own: Ctrl-C in a terminal reaches this process alone, which passes it on once.
        child = subprocess.Popen(
            [*runner, "-m", "gauntlet", *arguments], stderr=subprocess.PIPE, env=environ, start_new_session=True
        )
        listener = threading.Thread(target=_listen, args=(child, messages), daemon=True)
        listener.start()
        try:
            _wait(child, stop)
        finally:
            _end(child)
        listener.join(timeout=5.0)
        if child.returncode and stop.requested:
            raise stop.interruption("what its processes had finished is kept")
    if child.returncode:
        primary = [message for message in messages if _SECONDARY not in message] or messages
        return primary[0] if primary else f"{where}: one of {processes} processes ended without a message"
    return None


def _wait(child: subprocess.Popen[bytes], stop: StopRequest) -> None:
    is_passed_on = False
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.2)
            return
        if stop.requested and not is_passed_on:
            # The signal that torchrun passes on to its processes.
            child.send_signal(signal.SIGTERM)
            is_passed_on = True


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the processes, whatever ends this one: torchrun ends its own on SIGTERM, not when killed."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_GRACE_S)
        child.kill()


def _listen(child: subprocess.Popen[bytes], messages: list[str]) -> None:
    """Pass on what the processes write, except their final messages, which are reported once at the end."""
    assert child.stderr is not None
    with child.stderr as stream:
        for line in stream:
            text = line.decode("utf-8", "replace")
            if text.startswith(PREFIX):
                messages.append(text.removeprefix(PREFIX).strip())
            else:
                sys.stderr.write(text)
                sys.stderr.flush()
