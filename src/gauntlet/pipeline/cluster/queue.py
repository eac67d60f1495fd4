"""Jobs of this folder that are in the queue, among them those that outlived the controller that submitted them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gauntlet.pipeline.cluster.commands import ask

QUESTION = ("--noheader", f"--user={os.getuid()}", "--format=%i|%T|%r|%k|%Z")
"""Asks for identifier, state, reason, comment and folder; the folder last, since it alone may hold a bar."""


@dataclass(frozen=True)
class Job:
    """One job in the queue: its state as SLURM spells it, such as PENDING, and why it waits, empty without a reason.

    Snakemake's plugin writes the rule and its wildcards into the `comment`.
    """

    id: str
    state: str
    reason: str
    comment: str

    def __str__(self) -> str:
        return f"{self.state} ({self.reason})" if self.reason else self.state


def jobs_here() -> list[Job]:
    """List the user's jobs, waiting or running, that Snakemake submitted from the current folder."""
    done = ask("squeue", *QUESTION)
    found = parse(done.stdout, Path.cwd()) if done and done.returncode == 0 else []
    return [job for job in found if job.comment.startswith("rule_")]


def parse(text: str, folder: Path) -> list[Job]:
    """Read what `squeue` printed of the jobs that work in a folder; a line of another form is passed over."""
    # The folder may be spelt through a link: file systems of clusters often have two names.
    jobs, here = [], os.path.realpath(folder)
    for line in text.splitlines():
        identifier, state, reason, comment, at = [*line.strip().split("|", 4), "", "", "", ""][:5]
        if at and comment not in ("", "(null)") and state.isupper() and here in (at, os.path.realpath(at)):
            jobs.append(Job(identifier, state, "" if reason in ("None", "(null)") else reason, comment))
    return jobs


def after(jobs: Iterable[Job]) -> str:
    """Write the option that lets a new job start only after others have ended, however they do."""
    ids = ":".join(job.id for job in jobs)
    return f"--dependency=afterany:{ids}" if ids else ""
