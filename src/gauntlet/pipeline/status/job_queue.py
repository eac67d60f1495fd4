"""Which cells SLURM's queue speaks of; `squeue` is asked now and then, in the background.

The executor plugin names every job of a run after the run, and says rule and wildcards in the job's comment. So that of
two clones each sees its own jobs, only jobs that work in the given folder count.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from gauntlet.config.grid import Cell
from gauntlet.pipeline.cluster.commands import find_command
from gauntlet.pipeline.cluster.queue import SQUEUE_OPTIONS, Job, parse_jobs

INTERVAL_S = 30.0
"""A workload manager has thousands of users: it is asked no more often than this."""
PATIENCE_S = 20.0
"""A `squeue` that takes longer is ended."""

_RULES = {"report": "page"}
_SHARD = re.compile(r"rule_shard(?P<wildcards>_wildcards_.+)_\d+_\d+")


def of_cells(jobs: Iterable[Job], cells: Iterable[Cell]) -> tuple[dict[Cell, list[Job]], list[Job]]:
    """Give the jobs of each cell, its shards' too, and those that belong to no single cell, as groups of cells.

    A comment joins its wildcards by underscores, which names may hold, too: where it could mean two cells, it is of
    neither.
    """
    meant: dict[str, list[Cell]] = {}
    for cell in cells:
        meant.setdefault(comment_of(cell), []).append(cell)
    found: dict[Cell, list[Job]] = {}
    others = []
    for job in jobs:
        shard = _SHARD.fullmatch(job.comment)
        candidates = meant.get(f"rule_evaluate{shard['wildcards']}" if shard else job.comment, [])
        if len(candidates) == 1:
            found.setdefault(candidates[0], []).append(job)
        else:
            others.append(job)
    return found, others


def comment_of(cell: Cell) -> str:
    """Spell the comment that the executor plugin gives the job of a cell."""
    wildcards = [cell.experiment, cell.variant, str(cell.seed) if cell.variant else "", cell.name]
    return f"rule_{_RULES.get(cell.stage, cell.stage)}_wildcards_{'_'.join(part for part in wildcards if part)}"


class Queue:
    """The user's jobs that work in `folder`; nothing where there is no `squeue`.

    `look` never waits: a question is asked in the background, and what the last answer said stands until the next.
    """

    def __init__(self, folder: Path, *, interval_s: float = INTERVAL_S, patience_s: float = PATIENCE_S) -> None:
        self.folder, self.interval_s, self.patience_s = folder, interval_s, patience_s
        self.jobs: list[Job] = []
        self.problem = ""
        self._command = find_command("squeue")
        self._asked_s = -float("inf")
        self._asking: tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]] | None = None

    def look(self) -> list[Job]:
        """Give the jobs of the last answer; ask again when it is time. `problem` says why the last question failed."""
        now_s = time.monotonic()
        if self._asking is not None:
            self._listen(now_s)
        elif self._command is not None and now_s - self._asked_s >= self.interval_s:
            self._ask(now_s)
        return self.jobs

    def close(self) -> None:
        """End a question that is still open."""
        if self._asking is not None:
            self._asking[0].kill()
            self._end()

    def _ask(self, now_s: float) -> None:
        self._asked_s = now_s
        # Files, not pipes: an answer of any length never blocks the one who answers.
        answer, complaint = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(self._command), *SQUEUE_OPTIONS]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=answer, stderr=complaint)
        except OSError as error:
            self.problem = f"squeue: {error.strerror}"
            return
        self._asking = process, answer, complaint

    def _listen(self, now_s: float) -> None:
        assert self._asking is not None
        process, answer, complaint = self._asking
        if process.poll() is None:
            if now_s - self._asked_s < self.patience_s:
                return
            process.kill()
            self.problem = f"squeue: no answer within {self.patience_s:g} s"
        elif process.returncode != 0:
            self.problem = _last_line(_content(complaint)) or f"squeue: exit code {process.returncode}"
        else:
            self.jobs, self.problem = parse_jobs(_content(answer), self.folder), ""
        self._end()

    def _end(self) -> None:
        assert self._asking is not None
        process, *files = self._asking
        for file in files:
            file.close()
        # A process that hangs in the kernel, on a lost file system, outlives its own end: nobody waits for it.
        process.poll()
        self._asking = None


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
