"""Jobs of this folder that are in the queue, among them those that outlived the controller that submitted them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

from gauntlet.slurm.commands import rows


@dataclass(frozen=True)
class Job:
    """A job in the queue; Snakemake's plugin writes the rule and its wildcards into the `comment`."""

    id: str
    comment: str


def jobs_here() -> list[Job]:
    """List the user's jobs, waiting or running, that Snakemake submitted from the current folder."""
    found = rows("squeue", "--noheader", f"--user={getuser()}", "--format=%i|%k|%Z") or []
    here = Path.cwd().resolve()
    return [
        Job(row[0], row[1])
        for row in found
        if len(row) > 2 and row[1].startswith("rule_") and Path(row[2]).resolve() == here
    ]


def after(jobs: Iterable[Job]) -> str:
    """Write the option that lets a new job start only after others have ended, however they do."""
    ids = ":".join(job.id for job in jobs)
    return f"--dependency=afterany:{ids}" if ids else ""
