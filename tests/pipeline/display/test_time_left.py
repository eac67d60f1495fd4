"""Time left in a run: nothing before something is known, then work over the jobs at a time."""

from __future__ import annotations

import pytest

from gauntlet.pipeline.display.jobs import JobKind
from gauntlet.pipeline.display.time_left import Durations

FAST, SLOW, OTHER = (JobKind("evaluate", "small", name) for name in ("fgsm", "pgd", "cw"))
TRAIN = JobKind("train", "small", "")


def planned(counts, recorded=()):
    durations = Durations()
    for kind, count in counts.items():
        for _ in range(count):
            durations.plan(kind, lambda kind=kind: dict(recorded).get(kind))
    return durations


def test_unknown_at_first():
    """Neither the first seconds nor jobs of other kinds say how long the rest takes."""
    durations = planned({TRAIN: 2, FAST: 10})
    assert durations.seconds_left([], 0.0) is None
    assert durations.seconds_left([(TRAIN, 5.0)], 5.0) is None
    durations.finish(TRAIN, 20.0)
    assert durations.seconds_left([(TRAIN, 5.0)], 20.0) is None


def test_jobs_of_the_same_kind_at_the_rate_so_far():
    durations = planned({FAST: 10})
    for _ in range(4):
        durations.finish(FAST, 10.0)
    # Two at a time for 20 s: six jobs of 10 s are left.
    assert durations.seconds_left([], 20.0) == pytest.approx(30.0)
    # The running ones are half done.
    assert durations.seconds_left([(FAST, 5.0), (FAST, 5.0)], 25.0) == pytest.approx(25.0)


def test_other_kinds_of_a_rule_count_until_one_of_their_own_is_known():
    durations = planned({FAST: 2, SLOW: 2})
    durations.finish(FAST, 10.0)
    assert durations.seconds_left([], 10.0) == pytest.approx(30.0)
    durations.finish(SLOW, 50.0)
    assert durations.seconds_left([], 60.0) == pytest.approx(60.0)


def test_recorded_durations_are_known_before_the_first_job_ends_and_give_way_to_measured_ones():
    durations = planned({FAST: 4}, {FAST: 100.0})
    assert durations.seconds_left([(FAST, 10.0), (FAST, 10.0)], 10.0) == pytest.approx(190.0)
    durations.finish(FAST, 10.0)
    assert durations.seconds_left([], 10.0) == pytest.approx(30.0)


def test_a_long_job_that_runs_is_waited_for():
    """Of ten short jobs and a long one only the long one is left, though ten ran at a time."""
    durations = planned({FAST: 10, SLOW: 1}, {SLOW: 100.0})
    for _ in range(10):
        durations.finish(FAST, 10.0)
    assert durations.seconds_left([(SLOW, 10.0)], 10.0) == pytest.approx(90.0)


def test_never_negative_and_zero_at_the_end():
    durations = planned({FAST: 1}, {FAST: 1.0})
    assert durations.seconds_left([(FAST, 500.0)], 500.0) == 0.0
    durations.fail(500.0)
    durations.finish(FAST, 500.0)
    assert durations.seconds_left([], 1000.0) == 0.0


def test_a_job_that_takes_longer_than_expected_is_not_nearly_done():
    """Nothing is known of its rest; that of the others is known."""
    durations = planned({FAST: 1, SLOW: 2}, {FAST: 10.0, SLOW: 40.0})
    assert durations.seconds_left([(FAST, 500.0), (SLOW, 20.0)], 500.0) == pytest.approx(60.0 / (520.0 / 500.0))
    durations.finish(SLOW, 40.0)
    durations.finish(SLOW, 40.0)
    assert durations.seconds_left([(FAST, 10.1)], 1000.0) == 0.0
    assert 0.0 < durations.seconds_left([(FAST, 9.9)], 1000.0) < 2.0


def test_few_jobs_of_a_kind_read_their_records():
    durations, read = Durations(), []
    for number in range(1000):
        durations.plan(FAST, lambda number=number: read.append(number))
    assert len(read) < 10
