"""An experiment on a cluster: its controllers, its jobs, and the number of times each cell is made."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from gauntlet.pipeline.cluster.partitions import parse_minutes
from gauntlet.pipeline.stage import Cell
from tests.support.slurm.cluster import Cluster
from tests.support.stub_outputs import write_config
from tests.support.workflow import link_workflow

FAST_SNAKEMAKE = Path(__file__).with_name("fast_snakemake.py")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Job:
    """Pending, running or ended job; `kind` is the rule or group of its cells."""

    id: str
    state: str
    kind: str
    waits_for: str
    minutes: int | None


@dataclass(frozen=True)
class Account:
    """Accounting record of one run of a job; a requeued job has several."""

    state: str
    kind: str
    held: str


class Run:
    """A clone with an experiment in it."""

    def __init__(self, folder: Path, slurm: Cluster, config: dict, *options: str) -> None:
        self.folder, self.slurm, self._options = folder, slurm, options
        link_workflow(folder)
        (folder / "slurm").symlink_to("profiles/slurm")
        write_config(folder, config)
        self._controller: subprocess.Popen | None = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._controller is not None:
            self.kill()

    def start(self) -> None:
        """Start Snakemake as a user does, but polling the queue often."""
        # -P: modules in the script's folder must not be importable.
        command = [
            sys.executable,
            "-P",
            str(FAST_SNAKEMAKE),
            "--profile",
            "slurm",
            "--latency-wait",
            "5",
            "--slurm-init-seconds-before-status-checks",
            "2",
            *self._options,
        ]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        with (self.folder / "controller.log").open("a") as log:
            self._controller = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill the controller; its jobs go on."""
        self._controller.kill()
        self._controller.wait()

    def wait(self, seconds: float = 3600) -> int:
        """Wait until the controller ends; return its exit code."""
        return self._controller.wait(seconds)

    def jobs(self, *kinds: str, state: str = "") -> list[Job]:
        """List the jobs of some rules or groups, in order of submission."""
        ask = ["squeue", "--states=all", "--noheader", "--sort=i", "--format=%i|%T|%k|%E|%l|%Z"]
        lines = [line.split("|") for line in self.slurm.run(*ask).splitlines()]
        here = [line[:5] for line in lines if Path(line[5]) == self.folder]
        found = [Job(number, now, comment, waits, parse_minutes(limit)) for number, now, comment, waits, limit in here]
        wanted = tuple(f"rule_{kind}" for kind in kinds)
        return [job for job in found if job.kind.startswith(wanted) and state in ("", job.state)]

    def accounts(self) -> list[Account]:
        """List the accounting records of the run's jobs."""
        columns = "--format=State,Comment,AllocTRES,WorkDir"
        ask = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", "--starttime=now-1day", columns]
        lines = [line.split("|") for line in self.slurm.run(*ask).splitlines()]
        here = [line for line in lines if Path(line[3]) == self.folder and line[2]]
        return [Account(state.split()[0], comment, held) for state, comment, held, _ in here]

    def wait_for(self, what: Callable[[], Found], seconds: float = 1800) -> Found:
        """Wait until a function returns a true value while the controller lives; return it."""

        def found() -> Found:
            assert self._controller is None or self._controller.poll() is None, self.logs()
            return what()

        return wait_for(found, self.folder, seconds)

    def logs(self) -> str:
        """Return all logs and the queue, for messages of failed assertions."""
        return f"{collect_logs(self.folder)}\n{self.slurm.run('squeue', '--states=all', check=False)}"


def collect_logs(folder: Path) -> str:
    """Return all logs in a folder."""
    places = ("*.log", "logs/controller/*.out", "logs/**/*.log", ".snakemake/slurm_logs/**/*.log")
    logs = [log for place in places for log in sorted(folder.glob(place))]
    return "\n".join(f"== {log.relative_to(folder)}\n{log.read_text()[-3000:]}" for log in logs)


def wait_for(what: Callable[[], Found], folder: Path, seconds: float = 1800) -> Found:
    """Wait until a function returns a true value; return it."""
    deadline_s = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline_s, collect_logs(folder)
        time.sleep(0.3)
    return found


class ProductionCounter:
    """Counter of how often each cell is made, by the inodes of its table.

    Cells without a table are left out, since other files with the same bytes are not replaced. A hard link
    to each file is kept, so that its inode is not reused.
    """

    def __init__(self, folder: Path, cells: Sequence[Cell], kept: Path) -> None:
        tables = {cell: [path for path in cell.outputs if path.suffix == ".parquet"] for cell in cells}
        self._places = {cell: folder / found[0] for cell, found in tables.items() if found}
        self._kept, self._numbers = kept, {cell: set() for cell in self._places}
        self._ends, self._thread = threading.Event(), threading.Thread(target=self._go_on_looking)
        kept.mkdir()

    def __enter__(self) -> ProductionCounter:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._ends.set()
        self._thread.join()
        self._look()

    @property
    def counts(self) -> Counter[Cell]:
        """Number of times each cell was made so far."""
        return Counter({cell: len(numbers) for cell, numbers in self._numbers.items()})

    def made(self, *stages: str) -> int:
        """Return the number of cells of some stages made so far."""
        return sum(1 for cell, count in self.counts.items() if count and cell.stage.name in stages)

    def _go_on_looking(self) -> None:
        while not self._ends.wait(0.3):
            self._look()

    def _look(self) -> None:
        fresh = self._kept / "fresh"
        for cell, place in self._places.items():
            try:
                if place.stat().st_ino in self._numbers[cell]:
                    continue
                os.link(place, fresh)
            except FileNotFoundError:
                continue
            number = fresh.stat().st_ino
            fresh.rename(self._kept / str(number))
            self._numbers[cell].add(number)
