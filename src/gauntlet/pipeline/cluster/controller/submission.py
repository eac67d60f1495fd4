"""Sending the controller off as a SLURM job, asking after it, and cancelling it with the jobs of its cells."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.config import load
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock as locking
from gauntlet.pipeline.cluster.commands import ask, real
from gauntlet.pipeline.cluster.controller.job import WARNING, Controller
from gauntlet.pipeline.cluster.controller.record import Progress, Submitted, last_submitted, now, progress_of
from gauntlet.pipeline.cluster.partitions import partitions
from gauntlet.pipeline.cluster.queue import jobs_here
from gauntlet.pipeline.cluster.resources import Allocation, Asked

_WARNING_S = 300
_PATIENCE_S = 30 * 60.0
_LAST_LINES = 8


@dataclass(frozen=True)
class Situation:
    """Where the last controller stands: `state` is SLURM's word for its job with its reason, empty if it is over."""

    submitted: Submitted
    progress: Progress
    state: str

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return not self.state

    def __str__(self) -> str:
        starts = self.progress.starts
        lines = [
            f"controller: job {self.submitted.job}, {self.state or 'ended'}, submitted {self.submitted.at}",
            f"command: snakemake {shlex.join(self.submitted.arguments)}",
            f"started {len(starts)} times, last {starts[-1]}" if starts else "not yet started",
        ]
        if self.is_over:
            unknown = "without a word: killed, or its node failed" if starts else "before it started: cancelled"
            lines.append(f"ended {self.progress.end or unknown}")
        lines.append(f"log: {self.submitted.log}")
        with contextlib.suppress(OSError):
            text = self.submitted.log.read_text(encoding="utf-8", errors="replace")
            lines += [f"  {line}" for line in text.splitlines()[-_LAST_LINES:]]
        return "\n".join(lines)


def submit(arguments: Sequence[str]) -> Submitted:
    """Submit a job that runs `snakemake ARGUMENTS` in this folder to its end; `--profile slurm` if none is named.

    Raises GauntletError where there is no SLURM, where it refuses the job, or where another run holds the folder; of
    a configuration with errors, all of them.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    execution = load(_configs(arguments)).execution
    _require("sbatch", "srun", remedy="run snakemake itself, in a terminal that stays")
    if {"-n", "--dry-run", "--dryrun"} & set(arguments):
        raise InputError("a dry run needs no job", where="gauntlet submit", remedy="snakemake --profile slurm -n")
    if (found := situation()) and not found.is_over:
        raise GauntletError(
            f"the controller is already job {found.submitted.job} ({found.state})",
            remedy="gauntlet submit --status, or --cancel",
        )
    holder = locking.holder(paths.RESULTS)
    if holder is not None and not holder.is_dead:
        raise GauntletError(f"another run works on this folder ({holder})", remedy="wait for it, or stop it")
    if not any(argument.partition("=")[0] == "--profile" for argument in arguments):
        arguments = ["--profile", "slurm", *arguments]
    _rehearse(arguments)
    asked = Allocation(execution, partitions()).controller()
    # A short limit leaves less time to drain in.
    warning_s = min(_WARNING_S, asked.runtime * 60 // 3)
    # With exec, bash is no more, and the signal to the batch shell alone reaches Python.
    executor = SlurmExecutor(paths.CONTROLLER, python=f"exec {shlex.quote(sys.executable)}")
    executor.update_parameters(
        job_name="gauntlet",
        comment="controller",
        time=asked.runtime,
        mem=f"{asked.mem_mb}MB",
        cpus_per_task=1,
        use_srun=False,
        stderr_to_stdout=True,
        **{name: value for name, value in _choices(asked).items() if value},
        additional_parameters={"signal": f"B:{WARNING.name.removeprefix('SIG')}@{warning_s}", "requeue": True},
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            job = executor.submit(Controller(tuple(arguments), float(warning_s), _PATIENCE_S))
    except (FailedJobError, FailedSubmissionError) as error:
        told = next((line for line in reversed(str(error).splitlines()) if "error" in line.lower()), str(error))
        raise GauntletError(
            f"SLURM refuses the controller ({told.strip()})", where="sbatch", remedy=_MENDING
        ) from error
    sent = Submitted(job.job_id, tuple(arguments), now())
    sent.write()
    return sent


_MENDING = "say under `execution: cluster:` which account and partition are yours"


def _configs(arguments: Sequence[str]) -> list[Path]:
    """Find the configuration files among Snakemake's arguments, as its own parser would."""
    found: list[Path] = []
    taking = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            taking = name in ("--configfile", "--configfiles")
            found += [Path(value)] if taking and value else []
        elif taking:
            found.append(Path(argument))
    return found or [Path("config.yaml")]


def _choices(asked: Asked) -> dict[str, str]:
    return {"partition": asked.slurm_partition, "account": asked.slurm_account}


def _require(*commands: str, remedy: str) -> None:
    missing = [command for command in commands if real(command) is None]
    if missing:
        raise InputError("there is no SLURM here", where=" and ".join(missing), remedy=remedy)


def _rehearse(arguments: Sequence[str]) -> None:
    """Let Snakemake plan the run, so that what it refuses is told here and not hours later by a job."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--quiet", "all"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise InputError(
            " ".join(lines[-3:]), where="snakemake", remedy="see it by `snakemake` with these arguments and -n"
        )


def situation() -> Situation | None:
    """Say where the controller stands that was last sent off from this folder; None if there was none."""
    sent = last_submitted()
    return Situation(sent, progress_of(sent.job), _state(sent.job)) if sent else None


def cancel() -> list[str]:
    """Cancel the controller, then the jobs of its cells; gives the ids of what was cancelled.

    Raises GauntletError where SLURM does not answer.
    """
    found = situation()
    cancelled = [found.submitted.job] if found and not found.is_over else []
    if cancelled:
        _cancel(cancelled)
        # It could submit more until it is gone.
        while _state(cancelled[0]):
            time.sleep(1.0)
        if not (progress := progress_of(cancelled[0])).end:
            progress.ended("cancelled").write(cancelled[0])
    if cells := [job.id for job in jobs_here()]:
        _cancel(cells)
    return cancelled + cells


def _cancel(jobs: Sequence[str]) -> None:
    done = ask("scancel", *jobs)
    if done is None or done.returncode:
        raise GauntletError(f"SLURM did not cancel {', '.join(jobs)}", where="scancel", remedy="try again")


def _state(job: str) -> str:
    """Give SLURM's word for a job that is in the queue and why it waits; empty for one that is over.

    Raises GauntletError where SLURM does not answer.
    """
    _require("squeue", remedy="ask on a machine that has its commands")
    done = ask("squeue", "--noheader", "--me", "--format=%i|%T|%r")
    if done is None or done.returncode:
        told = done.stderr.strip() if done else "no answer"
        raise GauntletError(told, where="squeue", remedy="try again when SLURM answers")
    for line in done.stdout.splitlines():
        identifier, state, reason = line.strip().split("|", 2)
        if identifier == job:
            return state if reason in ("None", "(null)") else f"{state} ({reason})"
    return ""
