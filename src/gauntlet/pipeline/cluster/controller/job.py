"""What the controller's job does: Snakemake as a child process, drained before the time limit, then queued again.

Snakemake that is asked to stop by SIGTERM submits nothing more and waits for its jobs. Those that take longer than
there is time outlive it, and are waited for at the next start: nothing is computed twice, and nothing is lost.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from gauntlet.core.signals import StopRequest
from gauntlet.pipeline.cluster.commands import ask
from gauntlet.pipeline.cluster.controller.record import Progress, progress_of
from gauntlet.pipeline.cluster.lock import JOB_VARIABLE
from gauntlet.pipeline.cluster.queue import jobs_here

WARNING = signal.SIGUSR2
"""What SLURM sends some time before the limit."""

_TERM_S = 20.0
"""Seconds to drain in after SIGTERM: SLURM sends SIGKILL 30 s after it, unless it is configured otherwise."""

_RESERVE_S = 15.0
"""Seconds before the limit that are left for queueing the job again."""

_LOOK_S = 0.5

_PAUSE_S = 10.0
"""Seconds between two looks at the queue for jobs that outlived a start."""

_OF_THE_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
"""What SLURM and submitit tell the job by; jobs that it submits would inherit it as options of theirs."""


@dataclass(frozen=True)
class Controller:
    """Runs `snakemake ARGUMENTS` until it ends by itself, over as many starts of the job as that takes.

    The job gets SIGUSR2 `warning_s` seconds before its limit. At a later start, jobs that outlived the one before are
    waited for, at most `patience_s` seconds; the new jobs of their cells start after those that are left.
    """

    arguments: tuple[str, ...]
    warning_s: float
    patience_s: float

    def __call__(self) -> NoReturn:
        """Do one start's share. Ends the process, with Snakemake's exit code where Snakemake came to an end."""
        job = os.environ["SLURM_JOB_ID"]
        # Here an alarm would interrupt a drain; how long that may take is decided below.
        with StopRequest("the controller", grace_s=10 * 24 * 3600) as stop:
            progress = progress_of(job).started(socket.gethostname())
            progress.write(job)
            how, code = self._work(job, stop, progress)
            progress.ended(how).write(job)
            _say(how)
            # Not out of the block by itself: the signal would be sent once more, to submitit's handlers.
            raise SystemExit(code)

    def _work(self, job: str, stop: StopRequest, progress: Progress) -> tuple[str, int]:
        """Run Snakemake to its end or a request to stop; gives how that was, and the exit code of this start."""
        command = [sys.executable, "-m", "snakemake", *self.arguments]
        environ = environment(job)
        if len(progress.starts) > 1:
            self._wait_for_jobs(stop)
            _say("unlocking")
            subprocess.run([*command, "--unlock"], env=environ, check=False)
        _say(" ".join(command))
        child = subprocess.Popen(command, env=environ)
        while child.poll() is None and not stop.requested:
            time.sleep(_LOOK_S)
        if stop.received is None or stop.received is WARNING:
            if child.returncode is None:
                _drain(child, (_seconds_left(job) or self.warning_s) - _RESERVE_S)
            # Snakemake that was asked to stop exits with 1; with 0 only if there was nothing left to do.
            if stop.received is None or child.returncode == 0:
                return f"Snakemake's exit code {child.returncode}", child.returncode
            return _queue_again(job)
        # SIGKILL follows soon, and sooner than anybody says: first what matters.
        how, code = _queue_again(job) if _is_preempted(job) else (f"stopped by {stop.received.name}", 1)
        progress.ended(how).write(job)
        _drain(child, _TERM_S)
        return how, code

    def _wait_for_jobs(self, stop: StopRequest) -> None:
        deadline_s = time.monotonic() + self.patience_s
        said = 0
        while (left := jobs_here()) and not stop.requested and time.monotonic() < deadline_s:
            if len(left) != said:
                _say(
                    f"waiting for {len(left)} jobs that outlived the last start: {' '.join(job.id for job in left[:8])}"
                )
                said = len(left)
            end_s = time.monotonic() + _PAUSE_S
            while time.monotonic() < end_s and not stop.requested:
                time.sleep(_LOOK_S)


def environment(job: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Make Snakemake's environment from the job's: nothing of the job itself, but whose child it is."""
    kept = {name: value for name, value in environ.items() if name == "SLURM_CONF" or not name.startswith(_OF_THE_JOB)}
    return kept | {JOB_VARIABLE: job}


def _drain(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask Snakemake to end, and end it when there is no more time; its jobs go on."""
    _say(f"no more jobs; {seconds:.0f} s for those that run")
    child.terminate()
    try:
        child.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        _say("jobs that still run go on, and are waited for at the next start")
        child.kill()
        child.wait()


def _queue_again(job: str) -> tuple[str, int]:
    """Have SLURM start the job again; gives how that went, and the exit code of this start."""
    done = ask("scontrol", "requeue", job)
    if done is not None and done.returncode == 0:
        return "queued again", 0
    reason = done.stderr.strip() if done else "no answer"
    return f"could not be queued again ({reason}); `gauntlet submit` with the same arguments goes on", 1


def _is_preempted(job: str) -> bool:
    """Tell whether SLURM ends a job in favour of another: SIGTERM alone also comes of `scancel`."""
    return _shown(job, "PreemptTime") is not None


def _seconds_left(job: str) -> float | None:
    """Give the time that a job has, which SLURM shortens when it preempts; None where it does not answer."""
    end = _shown(job, "EndTime")
    return None if end is None else (datetime.fromisoformat(end) - datetime.now()).total_seconds()


def _shown(job: str, name: str) -> str | None:
    """Give what SLURM shows of a job under some name; None where it shows nothing, or does not answer."""
    done = ask("scontrol", "show", "job", job)
    found = re.search(rf"\b{name}=(\S+)", done.stdout) if done else None
    return found[1] if found and found[1] not in ("None", "Unknown") else None


def _say(what: str) -> None:
    sys.stderr.write(f"gauntlet: {what}\n")
    sys.stderr.flush()
