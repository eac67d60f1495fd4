"""Jobs in SLURM's queue that were submitted from this folder, those of an earlier controller included."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.cluster.commands import run_command

SQUEUE_OPTIONS = ("--noheader", "--all", f"--user={os.getuid()}", "--format=%i|%T|%r|%k|%Z")
"""Columns job id, state, reason, comment and working folder; the folder is last because it may contain a bar.

Without `--all` jobs in hidden partitions are left out.
"""


@dataclass(frozen=True)
class Job:
    """A job in the queue: its SLURM state, such as PENDING, and the reason why it waits, empty without one.

    The SLURM plugin writes the rule and its wildcards into the `comment`.
    """

    id: str
    state: str
    reason: str
    comment: str

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


def snakemake_jobs() -> list[Job]:
    """List the user's jobs, pending or running, that Snakemake submitted from the current folder.

    Raises GauntletError if SLURM does not answer: the jobs are then unknown, and their cells would be made twice.
    """
    return [job for job in parse_jobs(query_queue(), Path.cwd()) if job.comment.startswith("rule_")]


def query_queue() -> str:
    """Return what `squeue` lists of the user's jobs, in the columns of SQUEUE_OPTIONS.

    Raises GauntletError if SLURM does not answer.
    """
    result = run_command("squeue", *SQUEUE_OPTIONS)
    if result is None or result.returncode:
        problem = (result.stderr.strip() if result else "") or "SLURM does not answer"
        raise GauntletError(problem, where="squeue", remedy="try again when SLURM answers")
    return result.stdout


def parse_jobs(text: str, folder: Path) -> list[Job]:
    """Parse the output of `squeue` into the jobs whose working folder is `folder`; malformed lines are skipped."""
    # Cluster file systems often have two names, so that the folder may be spelled through a link.
    jobs, real_folder = [], os.path.realpath(folder)
    for line in text.splitlines():
        job_id, state, reason, comment, job_folder = [*line.strip().split("|", 4), "", "", "", ""][:5]
        is_complete = job_folder and comment not in ("", "(null)") and state.isupper()
        if is_complete and real_folder in (job_folder, os.path.realpath(job_folder)):
            jobs.append(Job(job_id, state, plain_reason(reason), comment))
    return jobs


def plain_reason(reason: str) -> str:
    """Return the reason why a job waits; empty where SLURM prints that there is none."""
    return "" if reason in ("None", "(null)") else reason


def dependency_option(jobs: Iterable[Job]) -> str:
    """Return the `sbatch` option that starts a job only after other jobs have ended, in whatever state."""
    ids = ":".join(job.id for job in jobs)
    return f"--dependency=afterany:{ids}" if ids else ""
