"""Counts of a run: cells to make, running, done and failed. An event costs the same in any grid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gauntlet.pipeline.display.jobs import CellsJob, JobKind
from gauntlet.pipeline.display.time_left import Durations
from gauntlet.pipeline.stage import Cell


@dataclass(frozen=True)
class Attempt:
    """A running job, started (or submitted) at `start_s`; `number` counts from 1."""

    job: CellsJob
    start_s: float
    number: int = 1


@dataclass(frozen=True)
class Failure:
    """A failed job: the last line of its log or what SLURM reports, and its log."""

    job: CellsJob
    reason: str
    log: str


@dataclass
class RunTally:
    """Counts of a run, by stage and in all. Times are seconds of any one clock.

    `planned` counts the cells to make, `done` those whose job ended well, and `up_to_date` those of them that their job
    found current. `current` cells need no job. A cell in shards is planned and done once; its shards only run.
    """

    planned: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    running: dict[int, Attempt] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    results: dict[Path, None] = field(default_factory=dict)
    durations: Durations = field(default_factory=Durations)
    current: int = 0
    up_to_date: int = 0
    start_s: float | None = None
    _attempts: Counter[int] = field(default_factory=Counter)
    _unfinished: dict[Cell, Counter[JobKind]] = field(default_factory=lambda: defaultdict(Counter))
    _dependents: dict[Cell, list[Cell]] = field(default_factory=lambda: defaultdict(list))

    def plan(
        self,
        jobs: Sequence[CellsJob],
        current: int,
        cost: Callable[[Cell], float | None],
        upstream: Callable[[Cell], Iterable[Cell]] = lambda _cell: (),
    ) -> None:
        """Set the work of the run: its jobs, the number of current cells, and of a cell its expected seconds.

        `upstream` lists the cells that a cell waits for.
        """
        self.current = current
        for job in jobs:
            if job.cell not in self._unfinished:
                for other in upstream(job.cell):
                    self._dependents[other].append(job.cell)
            self._unfinished[job.cell][job.kind] += 1
        shards = Counter(job.cell for job in jobs if job.shard)
        for job in jobs:
            self.planned[job.stage.name] += not job.shard
            # The last job of a cell in shards only gathers their results.
            count = shards[job.cell] if job.shard else (0 if job.cell in shards else 1)
            self.durations.plan(job.kind, partial(_share, cost, job.cell, count))

    @property
    def cells(self) -> int:
        """The number of cells to make; those begun so far, if the run was not described."""
        return max(self.planned.total(), self.done.total())

    def start(self, number: int, job: CellsJob, now_s: float) -> Attempt:
        """Record that the job of a number has started, for the first time or again."""
        self.start_s = now_s if self.start_s is None else self.start_s
        if self.failed.pop(number, None):
            self._hold()
        self._attempts[number] += 1
        self.running[number] = Attempt(job, now_s, self._attempts[number])
        return self.running[number]

    def finish(self, number: int, now_s: float, *, up_to_date: bool = False) -> float:
        """Record that a job ended well, and return its seconds."""
        attempt = self.running.pop(number)
        job, seconds = attempt.job, now_s - attempt.start_s
        self.durations.finish(job.kind, seconds)
        self._unfinished[job.cell][job.kind] -= 1
        self.done[job.stage.name] += not job.shard
        self.up_to_date += up_to_date and not job.shard
        if job.result is not None:
            self.results[job.result] = None
        return seconds

    def fail(self, number: int, failure: Failure, now_s: float) -> None:
        """Record that a job failed."""
        if attempt := self.running.pop(number, None):
            self.durations.fail(now_s - attempt.start_s)
        self.failed[number] = failure
        self._hold()

    def _hold(self) -> None:
        """Take what failed, and what waits for it, out of the time left; an event in itself, not a cost of others."""
        held = list(dict.fromkeys(failure.job.cell for failure in self.failed.values()))
        seen = set(held)
        for cell in held:
            waiting = [other for other in self._dependents.get(cell, ()) if other not in seen]
            seen.update(waiting)
            held += waiting
        self.durations.held = Counter()
        for cell in held:
            self.durations.held.update(self._unfinished.get(cell, {}))

    def elapsed_s(self, now_s: float) -> float:
        """Return the seconds since the first job started."""
        return 0.0 if self.start_s is None else now_s - self.start_s

    def seconds_left(self, now_s: float) -> float | None:
        """Estimate the seconds until the last cell is done that can run; None while too little is known."""
        spent = [(attempt.job.kind, now_s - attempt.start_s) for attempt in self.running.values()]
        return self.durations.seconds_left(spent, self.elapsed_s(now_s))


def _share(cost: Callable[[Cell], float | None], cell: Cell, count: int) -> float | None:
    """Return the seconds of one of `count` equal shares of a cell; None if there are none."""
    seconds = cost(cell)
    return seconds / count if seconds is not None and count else None
