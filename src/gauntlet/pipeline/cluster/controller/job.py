"""The controller's job: Snakemake as a child process, stopped before the time limit, then requeued.

At SIGTERM Snakemake submits nothing more and waits for its jobs. Jobs that take longer than the time that is left keep
running after the controller, whose next start waits for them: no cell is computed twice and no result is lost.
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

from gauntlet.core.errors import GauntletError
from gauntlet.core.signals import StopRequest
from gauntlet.core.user_modules import SAFE_PATH
from gauntlet.pipeline.cluster.commands import run_command
from gauntlet.pipeline.cluster.controller.record import ControllerRecord, read_record
from gauntlet.pipeline.cluster.lock import JOB_VARIABLE
from gauntlet.pipeline.cluster.partitions import PARTITIONS_VARIABLE
from gauntlet.pipeline.cluster.queue import snakemake_jobs
from gauntlet.pipeline.forcing import SINCE_VARIABLE
from gauntlet.pipeline.project import snakemake_command

WARNING_SIGNAL = signal.SIGUSR2
"""The signal that SLURM sends some time before the limit."""

_KILL_WAIT_S = 20.0
"""Seconds for Snakemake to stop after SIGTERM: SLURM's default is to send SIGKILL after 30 s (KillWait)."""

_REQUEUE_S = 15.0
"""Seconds before the time limit that are reserved for requeueing the job."""

_POLL_S = 0.5

_QUEUE_POLL_S = 10.0
"""Seconds between two queries of the queue for jobs of an earlier start."""

_JOB_PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
"""Prefixes of the variables that describe a job to SLURM and submitit; jobs submitted from it would inherit them."""


@dataclass(frozen=True)
class Controller:
    """Runs `snakemake ARGUMENTS` to its end, over as many starts of the job as that takes.

    The job receives SIGUSR2 `warning_s` seconds before its time limit. A later start waits for the jobs of earlier ones
    for at most `max_wait_s` seconds; the new jobs of cells whose old jobs still run then depend on these.
    """

    arguments: tuple[str, ...]
    warning_s: float
    max_wait_s: float

    def __call__(self) -> NoReturn:
        """Run one start of the job and exit, with Snakemake's exit code if Snakemake ended by itself."""
        job = os.environ["SLURM_JOB_ID"]
        # An alarm must not interrupt Snakemake's stop, whose time limit is set below.
        with StopRequest("the controller", grace_s=10 * 24 * 3600) as stop:
            record = read_record(job).started(socket.gethostname())
            record.write(job)
            end, code = self._run(job, stop, record)
            record.ended(end).write(job)
            _log(end)
            # Leaving the block without an exception would send the signal once more, to submitit's handlers.
            raise SystemExit(code)

    def _run(self, job: str, stop: StopRequest, record: ControllerRecord) -> tuple[str, int]:
        """Run Snakemake to its end or to a stop request; return how it ended and the exit code of this start."""
        command = snakemake_command(self.arguments)
        environ = child_environment(job) | {SINCE_VARIABLE: record.starts[0].partition(" ")[0]}
        if len(record.starts) > 1:
            self._wait_for_earlier_jobs(stop)
            _log("unlocking")
            subprocess.run([*command, "--unlock"], env=environ, check=False)
        _log(" ".join(command))
        snakemake = subprocess.Popen(command, env=environ)
        while snakemake.poll() is None and not stop.requested:
            time.sleep(_POLL_S)
        if stop.received is None or stop.received is WARNING_SIGNAL:
            if snakemake.returncode is None:
                _stop(snakemake, (_seconds_left(job) or self.warning_s) - _REQUEUE_S)
            # After SIGTERM Snakemake exits with 1, and with 0 only if no job was left to run.
            if stop.received is None or snakemake.returncode == 0:
                return f"Snakemake's exit code {snakemake.returncode}", snakemake.returncode
            return _requeue(job)
        # SIGKILL follows within seconds, so requeue and write the record before stopping Snakemake.
        end, code = _requeue(job) if _is_preempted(job) else (f"stopped by {stop.received.name}", 1)
        record.ended(end).write(job)
        _stop(snakemake, _KILL_WAIT_S)
        return end, code

    def _wait_for_earlier_jobs(self, stop: StopRequest) -> None:
        deadline_s = time.monotonic() + self.max_wait_s
        logged = ""
        while (awaited := _earlier_jobs()) and not stop.requested and time.monotonic() < deadline_s:
            if awaited != logged:
                _log(f"waiting for {awaited}")
                logged = awaited
            next_query_s = time.monotonic() + _QUEUE_POLL_S
            while time.monotonic() < next_query_s and not stop.requested:
                time.sleep(_POLL_S)


def _earlier_jobs() -> str:
    """Describe the jobs of an earlier start that are in the queue, or why they are not known; empty without any."""
    try:
        jobs = snakemake_jobs()
    except GauntletError as error:
        return f"an answer ({error})"
    listed = " ".join(job.id for job in jobs[:8])
    return f"{len(jobs)} jobs of an earlier start: {listed}" if jobs else ""


def child_environment(job: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment for Snakemake: the job's without the variables that describe it, and with its id.

    Partitions are listed anew: those of the submission may be of another week.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if name == "SLURM_CONF" or not name.startswith((*_JOB_PREFIXES, PARTITIONS_VARIABLE))
    }
    return inherited | SAFE_PATH | {JOB_VARIABLE: job}


def _stop(snakemake: subprocess.Popen[bytes], seconds: float) -> None:
    """Terminate Snakemake, and kill it after `seconds`; its jobs continue."""
    _log(f"submitting no more jobs; waiting {seconds:.0f} s for those that run")
    snakemake.terminate()
    try:
        snakemake.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        _log("the remaining jobs continue; the next start waits for them")
        snakemake.kill()
        snakemake.wait()


def _requeue(job: str) -> tuple[str, int]:
    """Requeue the job; return how that ended and the exit code of this start."""
    result = run_command("scontrol", "requeue", job)
    if result is not None and result.returncode == 0:
        return "requeued", 0
    reason = result.stderr.strip() if result else "no answer"
    return f"could not be requeued ({reason}); `gauntlet submit` with the same arguments continues the run", 1


def _is_preempted(job: str) -> bool:
    """Return whether SLURM ends the job to run another; `scancel` sends SIGTERM too."""
    return _job_field(job, "PreemptTime") is not None


def _seconds_left(job: str) -> float | None:
    """Return the seconds to the job's end, which preemption brings forward; None if SLURM does not answer."""
    end = _job_field(job, "EndTime")
    return None if end is None else (datetime.fromisoformat(end) - datetime.now()).total_seconds()


def _job_field(job: str, name: str) -> str | None:
    """Return a field of `scontrol show job`; None if it has no value or SLURM does not answer."""
    result = run_command("scontrol", "show", "job", job)
    match = re.search(rf"\b{name}=(\S+)", result.stdout) if result else None
    return match[1] if match and match[1] not in ("None", "Unknown") else None


def _log(message: str) -> None:
    sys.stderr.write(f"gauntlet: {message}\n")
    sys.stderr.flush()
