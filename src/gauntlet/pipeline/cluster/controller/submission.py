"""Submission of the controller as a SLURM job, its status, and its cancellation with the jobs of its cells."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.config import load
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.user_modules import SAFE_PATH
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.cluster.commands import find_command, run_command
from gauntlet.pipeline.cluster.controller.frozen_code import FrozenCode, freeze
from gauntlet.pipeline.cluster.controller.job import WARNING_SIGNAL, Controller
from gauntlet.pipeline.cluster.controller.record import (
    ControllerRecord,
    Submission,
    last_submission,
    read_record,
    utc_now,
)
from gauntlet.pipeline.cluster.partitions import list_partitions
from gauntlet.pipeline.cluster.queue import Job, plain_reason, query_queue, snakemake_jobs
from gauntlet.pipeline.cluster.resources import JobResources
from gauntlet.pipeline.project import with_profile
from gauntlet.pipeline.snakemake_arguments import check_arguments, config_files, with_config_files
from gauntlet.pipeline.snakemake_options import check_paths

_WARNING_S = 300
_MAX_WAIT_S = 30 * 60.0
_LOG_LINES = 8

_DIRECTORY = ("--directory", "-d")
"""Options of Snakemake that name another working folder."""

_SUBMITTED_FILE = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")
"""Names of submitit's files before SLURM has accepted the job."""

_NO_ANSWER = re.compile(
    r"failed to fetch config|configuration source|unable to contact slurm|socket timed out|connection refused"
    r"|zero bytes were transmitted|unable to (?:open|stat|read) .*slurm\.conf",
    re.IGNORECASE,
)
"""Messages of `sbatch` where no controller of SLURM can be reached."""


@dataclass(frozen=True)
class ControllerStatus:
    """The last controller of this folder; `state` is its job's SLURM state and reason, empty if it has ended."""

    submission: Submission
    record: ControllerRecord
    state: str

    @property
    def has_ended(self) -> bool:
        """True if the job is no longer in the queue."""
        return not self.state

    def __str__(self) -> str:
        starts = self.record.starts
        code = f", code {self.submission.code}" if self.submission.code else ""
        lines = [
            f"controller: job {self.submission.job}, {self.state or 'ended'}, submitted {self.submission.at}",
            f"command: snakemake {shlex.join(self.submission.arguments)}{code}",
            f"started {len(starts)} times, last {starts[-1]}" if starts else "not yet started",
        ]
        if self.has_ended:
            unrecorded = "without a record: killed, or its node failed" if starts else "before it started: cancelled"
            lines.append(f"ended {self.record.end or unrecorded}")
        lines.append(f"log: {self.submission.log}")
        with contextlib.suppress(OSError):
            text = self.submission.log.read_text(encoding="utf-8", errors="replace")
            lines += [f"  {line}" for line in text.splitlines()[-_LOG_LINES:]]
        return "\n".join(lines)


def submit(arguments: Sequence[str], *, is_frozen: bool = False) -> Submission:
    """Submit a job that runs `snakemake ARGUMENTS` in this folder to its end; `--profile slurm` if none is named.

    With `is_frozen` it runs from a copy of the code and of the configuration files.

    Raises InputError if SLURM is not installed or the configuration has errors (all of them), GauntletError if SLURM
    does not answer or rejects the job, or another run uses the folder. `logs/controller` is then as it was before.
    """
    check_arguments(arguments)
    if any(argument.partition("=")[0] in _DIRECTORY for argument in arguments):
        problem = "the controller, its records and its copy of the code belong to the folder where it is submitted"
        raise InputError(problem, where=_DIRECTORY[0], remedy="submit it there, without this option")
    execution = load(config_files(arguments)).execution
    check_paths([str(Path.cwd())])
    _require_commands("sbatch", "srun", alternative=", or `gauntlet run` in a terminal that stays open")
    if {"-n", "--dry-run", "--dryrun"} & set(arguments):
        raise InputError("a dry run needs no job", where="gauntlet submit", remedy="gauntlet run --profile slurm -n")
    if (status := controller_status()) and not status.has_ended:
        raise GauntletError(
            f"the controller is already job {status.submission.job} ({status.state})",
            remedy="gauntlet submit --status, or --cancel",
        )
    holder = lock.holder(paths.RESULTS)
    if holder is not None and not holder.is_dead:
        raise GauntletError(f"another run uses this folder ({holder})", remedy="wait for it, or stop it")
    arguments = with_profile(arguments, "slurm")
    code: FrozenCode | None = None
    try:
        code = freeze(config_files(arguments)) if is_frozen else None
        run = with_config_files(arguments, code.configs) if code else arguments
        environment = code.environment if code else SAFE_PATH
        _dry_run(run, environment)
        others_are_unused = code is not None and not snakemake_jobs()
        job = _submit_job(run, environment, JobResources(execution, list_partitions()))
    except BaseException:
        _remove_leftovers(code)
        raise
    if code and others_are_unused:
        code.remove_others()
    copied = os.path.relpath(code.folder) if code else ""
    submission = Submission(job=job, arguments=tuple(arguments), at=utc_now(), code=copied)
    submission.write()
    return submission


def _remove_leftovers(code: FrozenCode | None) -> None:
    """Remove what a submission that failed has written: its copy of the code, script and pickle, and empty folders."""
    if code:
        code.discard()
    for path in paths.CONTROLLER.glob("*"):
        # Those of a job are renamed, with links to them.
        if _SUBMITTED_FILE.fullmatch(path.name) and not path.is_symlink():
            path.unlink(missing_ok=True)
    for folder in (paths.FROZEN_CODE, paths.CONTROLLER, paths.LOGS):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _submit_job(arguments: Sequence[str], environment: Mapping[str, str], jobs: JobResources) -> str:
    """Submit the controller through submitit and return its job id.

    Raises GauntletError if SLURM rejects it or does not answer.
    """
    resources = jobs.of_controller()
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    # A short time limit leaves less time to stop.
    warning_s = min(_WARNING_S, resources.runtime * 60 // 3)
    choices = {"partition": resources.slurm_partition, "account": resources.slurm_account}
    choices["mem"] = f"{resources.mem_mb}MB" if resources.mem_mb else ""
    options: dict[str, str | bool] = {name: value or True for name, value in jobs.options.items()}
    # `exec` replaces bash by Python, which then receives the signal that is sent to the batch shell alone.
    executor = SlurmExecutor(paths.CONTROLLER, python=f"exec {shlex.quote(sys.executable)}")
    executor.update_parameters(
        job_name="gauntlet",
        comment="controller",
        time=resources.runtime,
        cpus_per_task=1,
        use_srun=False,
        stderr_to_stdout=True,
        **{name: value for name, value in choices.items() if value},
        additional_parameters={
            **options,
            "signal": f"B:{WARNING_SIGNAL.name.removeprefix('SIG')}@{warning_s}",
            "requeue": True,
        },
    )
    try:
        # The job inherits this process's environment.
        os.environ.update(environment)
        with contextlib.redirect_stderr(io.StringIO()):
            return str(executor.submit(Controller(tuple(arguments), float(warning_s), _MAX_WAIT_S)).job_id)
    except (FailedJobError, FailedSubmissionError) as error:
        message = next((line for line in reversed(str(error).splitlines()) if "error" in line.lower()), str(error))
        reason = message.strip() or "without a reason"
        if _NO_ANSWER.search(str(error)):
            remedy = "run this on a host of a cluster, try again when SLURM answers, or use `gauntlet run`"
            raise GauntletError(f"no SLURM answers ({reason})", where="sbatch", remedy=remedy) from error
        remedy = "set your account and partition under `execution: cluster:`"
        raise GauntletError(f"SLURM rejects the controller ({reason})", where="sbatch", remedy=remedy) from error


def _require_commands(*commands: str, alternative: str = "") -> None:
    missing = [command for command in commands if find_command(command) is None]
    if missing:
        remedy = f"run this on a host with SLURM installed{alternative}"
        raise InputError("SLURM is not installed on this host", where=" and ".join(missing), remedy=remedy)


def _dry_run(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Plan the run with Snakemake, so that its errors are reported now and not hours later by the job."""
    command = [sys.executable, "-m", "gauntlet", "run", *arguments, "--dry-run", "--quiet", "all"]
    environ = {**os.environ, **environment}
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ, check=False)
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        raise InputError(
            " ".join(lines[-3:]),
            where="snakemake",
            remedy="`gauntlet run` with these arguments and -n shows all of it",
        )


def controller_status() -> ControllerStatus | None:
    """Return the status of the last controller that was submitted from this folder; None if there was none."""
    submission = last_submission()
    if submission is None:
        return None
    return ControllerStatus(submission, read_record(submission.job), _queue_state(submission.job))


def cancel() -> list[str]:
    """Cancel the controller, then the jobs of its cells; return the ids of the cancelled jobs.

    Raises InputError if SLURM is not installed, GauntletError if it does not answer.
    """
    _require_commands("squeue", "scancel")
    status = controller_status()
    cancelled = [status.submission.job] if status and not status.has_ended else []
    if cancelled:
        _cancel_jobs(cancelled)
        # Until it has ended, the controller may submit more jobs.
        while _queue_state(cancelled[0]):
            time.sleep(1.0)
        if not (record := read_record(cancelled[0])).end:
            record.ended("cancelled").write(cancelled[0])
    if jobs := [job.id for job in snakemake_jobs()]:
        _cancel_jobs(jobs)
    return cancelled + jobs


def _cancel_jobs(jobs: Sequence[str]) -> None:
    result = run_command("scancel", *jobs)
    if result is None or result.returncode:
        raise GauntletError(f"SLURM did not cancel {', '.join(jobs)}", where="scancel", remedy="try again")


def _queue_state(job: str) -> str:
    """Return the SLURM state and reason of a job in the queue; empty for one that has ended.

    Raises GauntletError if SLURM does not answer.
    """
    _require_commands("squeue")
    for line in query_queue().splitlines():
        job_id, state, reason = [*line.strip().split("|"), "", ""][:3]
        if job_id == job:
            return str(Job(job_id, state, plain_reason(reason), ""))
    return ""
