"""Jobs of cells in SLURM's queue; `squeue` is run now and then, in the background.

The SLURM plugin names all jobs of a run after the run, and writes rule and wildcards into the job comment. Only jobs
whose working folder is the given one count, so that two clones do not see each other's jobs.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from gauntlet.pipeline.cluster.commands import environment, find_command
from gauntlet.pipeline.cluster.queue import SQUEUE_OPTIONS, Job, parse_jobs
from gauntlet.pipeline.stage import Cell

INTERVAL_S = 30.0
"""Least time between two queries: a workload manager serves thousands of users."""

TIMEOUT_S = 20.0
"""Time after which a `squeue` that does not answer is killed."""

_SHARD = re.compile(r"(?P<comment>.+)_\d+_\d+")


def jobs_by_cell(jobs: Iterable[Job], cells: Iterable[Cell]) -> tuple[dict[Cell, list[Job]], list[Job]]:
    """Return the jobs of each cell, its shards included, and the jobs of no single cell, such as group jobs.

    A comment joins wildcards by underscores, which names may contain too: an ambiguous comment belongs to no cell.
    """
    cells_of_comment: dict[str, list[Cell]] = {}
    cells_of_shards: dict[str, list[Cell]] = {}
    for cell in cells:
        cells_of_comment.setdefault(job_comment(cell), []).append(cell)
        for rule in cell.stage.rules[1:]:
            cells_of_shards.setdefault(job_comment(cell, rule), []).append(cell)
    jobs_of_cell: dict[Cell, list[Job]] = {}
    other_jobs = []
    for job in jobs:
        shard = _SHARD.fullmatch(job.comment)
        of_shard = cells_of_shards.get(shard["comment"], []) if shard else []
        candidates = cells_of_comment.get(job.comment, of_shard)
        if len(candidates) == 1:
            jobs_of_cell.setdefault(candidates[0], []).append(job)
        else:
            other_jobs.append(job)
    return jobs_of_cell, other_jobs


def job_comment(cell: Cell, rule: str = "") -> str:
    """Return the comment that the SLURM plugin gives the job of a cell, by its stage's first rule or by another."""
    wildcards = [cell.experiment, cell.variant, str(cell.seed) if cell.variant else "", cell.name]
    return f"rule_{rule or cell.stage.rules[0]}_wildcards_{'_'.join(part for part in wildcards if part)}"


class QueuePoller:
    """The user's jobs whose working folder is `folder`; none without `squeue`.

    `poll` never waits: `squeue` runs in the background, and its last answer counts until the next.
    """

    def __init__(self, folder: Path, *, interval_s: float = INTERVAL_S, timeout_s: float = TIMEOUT_S) -> None:
        self.folder, self.interval_s, self.timeout_s = folder, interval_s, timeout_s
        self.jobs: list[Job] = []
        self.problem = ""
        self._command = find_command("squeue")
        self._started_s = -float("inf")
        self._running: tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]] | None = None

    def poll(self) -> list[Job]:
        """Return the jobs of the last answer, and query again if it is time; `problem` is the last query's error."""
        now_s = time.monotonic()
        if self._running is not None:
            self._check(now_s)
        elif self._command is not None and now_s - self._started_s >= self.interval_s:
            self._start(now_s)
        return self.jobs

    def close(self) -> None:
        """Kill a running query."""
        if self._running is not None:
            self._running[0].kill()
            self._finish()

    def _start(self, now_s: float) -> None:
        self._started_s = now_s
        # Files, not pipes, which would block a long answer until it is read.
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(self._command), *SQUEUE_OPTIONS]
        try:
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=errors
            )
        except OSError as error:
            self.problem = f"squeue: {error.strerror}"
            return
        self._running = process, output, errors

    def _check(self, now_s: float) -> None:
        assert self._running is not None
        process, output, errors = self._running
        if process.poll() is None:
            if now_s - self._started_s < self.timeout_s:
                return
            process.kill()
            self.problem = f"squeue: no answer within {self.timeout_s:g} s"
        elif process.returncode != 0:
            self.problem = _last_line(_content(errors)) or f"squeue: exit code {process.returncode}"
        else:
            self.jobs, self.problem = parse_jobs(_content(output), self.folder), ""
        self._finish()

    def _finish(self) -> None:
        assert self._running is not None
        process, *files = self._running
        for file in files:
            file.close()
        # Not waited for: on a lost file system even a killed process may hang in the kernel.
        process.poll()
        self._running = None


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
