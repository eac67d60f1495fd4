"""Job states merged from `squeue` and `sacct`; either may lose jobs or fail to answer.

snakemake-executor-plugin-slurm waits forever for a job whose state it does not know or is not given, and forgets all of
its jobs when its one status command fails. It is therefore given only states that it knows. A job that is missing from
both sources is reported as failed at the second poll: a retry costs little, since a finished cell is not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gauntlet.pipeline.cluster.commands import find_command, query_rows, run_command

ACTIVE_STATES = frozenset(
    """
    PENDING RUNNING SUSPENDED COMPLETING CONFIGURING STAGE_OUT SIGNALING STOPPED RESIZING POWER_UP_NODE
    REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD EXPEDITING LAUNCH_FAILED RECONFIG_FAIL UPDATE_DB
    """.split()  # noqa: SIM905 - more legible than so many literals
)
"""States of jobs that have not ended; one whose launch failed is queued again, or held until it is cancelled."""

_FINAL_STATES = frozenset(
    ("COMPLETED", "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
)
"""Final states that the plugin knows; any other is reported as CANCELLED."""

_STATES_BEFORE_REQUEUE = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"})
"""States in the accounting after which SLURM may requeue a job; only `squeue` shows whether it did."""

MAX_MISSES = 2
"""Polls in a row at which both sources lack a known job before it counts as lost."""

MAX_MISSES_WITHOUT_SACCT = 10
"""The same while there is accounting but `sacct` does not answer: it may still know the job."""


@dataclass(frozen=True)
class ReportedStates:
    """States of a run's jobs by job id, from each source; None for a source that did not answer."""

    squeue: Mapping[str, str] | None
    sacct: Mapping[str, str] | None
    has_accounting: bool = True


def query_states(run: str) -> ReportedStates:
    """Query both sources for all jobs of a run, by their common job name."""
    queue = query_rows("squeue", "--noheader", "--all", "--states=all", f"--name={run}", "--format=%i|%T")
    columns = ("--parsable2", "--noheader", "--format=JobIDRaw,State")
    result = run_command("sacct", "--allocations", *columns, "--starttime=now-2days", f"--name={run}")
    is_disabled = result is not None and "accounting storage is disabled" in result.stderr.lower()
    has_accounting = find_command("sacct") is not None and not is_disabled
    answered = has_accounting and result is not None and result.returncode == 0
    accounting = [line.split("|") for line in result.stdout.splitlines()] if answered and result else None
    return ReportedStates(_states_by_id(queue), _states_by_id(accounting), has_accounting)


def merge_states(reported: ReportedStates, misses: Mapping[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Return the state of each job as the plugin spells it, and the number of polls that missed each open job.

    `misses` is the second value of the previous poll. A job without a certain state is left out of the states, so that
    the plugin keeps waiting for it.
    """
    queue, accounting = reported.squeue, reported.sacct or {}
    certain = {job: state for job, state in accounting.items() if _is_certain(state, queue)}
    certain |= queue or {}
    states = {job: _known_to_plugin(state) for job, state in certain.items()}
    counts = dict.fromkeys((job for job, state in certain.items() if state in ACTIVE_STATES), 0)
    limit = MAX_MISSES_WITHOUT_SACCT if reported.has_accounting and reported.sacct is None else MAX_MISSES
    for job in {*misses, *accounting} - set(certain):
        # Without an answer from squeue the job may well be in the queue.
        counts[job] = misses.get(job, 0) + (queue is not None)
        if counts[job] >= limit:
            states[job] = "FAILED"
    return states, counts


def _is_certain(state: str, queue: Mapping[str, str] | None) -> bool:
    """Return whether the accounting alone decides the state of a job that `squeue` does not list."""
    if queue is None:
        return state not in _STATES_BEFORE_REQUEUE
    return state not in ACTIVE_STATES


def _known_to_plugin(state: str) -> str:
    return state if state in ACTIVE_STATES or state in _FINAL_STATES else "CANCELLED"


def _states_by_id(rows: list[list[str]] | None) -> dict[str, str] | None:
    """Map job ids to states; in ``CANCELLED by 1000`` the first word is the state."""
    if rows is None:
        return None
    return {row[0].strip(): row[1].split()[0] for row in rows if len(row) > 1 and row[1].strip()}
