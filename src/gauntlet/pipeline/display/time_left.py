"""Time left in a run, from the durations of its jobs so far and the recorded durations of earlier runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean, median

from gauntlet.pipeline.display.jobs import JobKind

_SHARE_KNOWN = 0.5
"""Share of the unfinished jobs whose duration must be known before a time is given."""

_SAMPLED_JOBS = 5
"""Number of jobs of a kind whose recorded durations are read; their median counts."""


@dataclass
class _Total:
    jobs: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.jobs += 1
        self.seconds += seconds

    @property
    def mean(self) -> float | None:
        return self.seconds / self.jobs if self.jobs else None


class Durations:
    """Durations of a run's jobs by kind, and how many of each are unfinished."""

    def __init__(self) -> None:
        self._unfinished: Counter[JobKind] = Counter()
        self.held: Counter[JobKind] = Counter()
        """Unfinished jobs that cannot run, as things are: those that failed, and what waits for them."""
        self._recorded: dict[JobKind, list[float]] = defaultdict(list)
        self._of_kind: dict[JobKind, _Total] = defaultdict(_Total)
        self._of_rule: dict[str, _Total] = defaultdict(_Total)
        self._spent_s = 0.0

    def plan(self, kind: JobKind, recorded: Callable[[], float | None]) -> None:
        """Count a job to do; `recorded` returns how long it, or one like it, took in an earlier run.

        It is called for a few jobs of a kind, since it may read files.
        """
        self._unfinished[kind] += 1
        if self._unfinished[kind] <= _SAMPLED_JOBS and (seconds := recorded()) is not None:
            self._recorded[kind].append(seconds)

    def finish(self, kind: JobKind, seconds: float) -> None:
        """Count a finished job."""
        self._unfinished[kind] -= 1
        self._of_kind[kind].add(seconds)
        self._of_rule[kind.rule].add(seconds)
        self._spent_s += seconds

    def fail(self, seconds: float) -> None:
        """Count the time of a failed job, which may run again."""
        self._spent_s += seconds

    def expected(self, kind: JobKind) -> float | None:
        """Return the expected seconds of a job: from this run or an earlier one, else of its rule in this run."""
        mean = self._of_kind[kind].mean if kind in self._of_kind else None
        if mean is None and kind in self._recorded:
            mean = median(self._recorded[kind])
        return mean if mean is not None else self._of_rule[kind.rule].mean

    def seconds_left(self, running: Iterable[tuple[JobKind, float]], elapsed_s: float) -> float | None:
        """Estimate the seconds until all jobs have ended, if as many run at a time as did so far.

        `running` are the kinds of the running jobs and how long each has run; `elapsed_s` is the time since the first
        job started. 0 if every job that is left takes longer than expected. None before anything is known: no job has
        started, or half of the jobs are of unknown duration; and where no job is left but those that are held.
        """
        to_run = self._unfinished - self.held
        expected = {kind: self.expected(kind) for kind in to_run}
        known = {kind: seconds for kind, seconds in expected.items() if seconds is not None}
        jobs, known_jobs = (sum(to_run[kind] for kind in kinds) for kinds in (expected, known))
        if not jobs:
            return None if self.held.total() else 0.0
        if elapsed_s <= 0 or known_jobs < _SHARE_KNOWN * jobs:
            return None
        other = fmean(known.values())
        begun = list(running)
        waiting = to_run - Counter(kind for kind, _ in begun)
        # Nothing is known of the rest of a job that takes longer than expected.
        rests_s = [max(known.get(kind, other) - seconds, 0.0) for kind, seconds in begun]
        work_s = sum(count * known.get(kind, other) for kind, count in waiting.items()) + sum(rests_s)
        spent_s = self._spent_s + sum(seconds for _, seconds in begun)
        at_a_time = max(spent_s / elapsed_s, 1e-9)
        return max(work_s / at_a_time, *rests_s, 0.0)
