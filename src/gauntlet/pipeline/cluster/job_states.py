"""What became of jobs, from two witnesses that each forget or fall silent: the controller's queue and the accounts.

Snakemake's plugin believes what it is told, waits for ever for a job in a state that it does not know or that nobody
tells, and drops all its jobs when the one command that it asks fails. So it is told one of the states it knows, and a
job that nobody knows any more is called failed at the second look: trying again costs little, since a cell that was
finished after all is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gauntlet.pipeline.cluster.commands import ask, real, rows

QUEUED = frozenset(
    """
    PENDING RUNNING SUSPENDED COMPLETING CONFIGURING STAGE_OUT SIGNALING STOPPED RESIZING POWER_UP_NODE
    REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD
    """.split()  # noqa: SIM905 - fifteen words read better than fifteen literals
)
"""States of jobs that SLURM has not done with."""

_FINAL = frozenset(
    ("COMPLETED", "BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
)
"""Final states that the plugin knows; the others are told as CANCELLED."""

_MAYBE_QUEUED_AGAIN = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"})
"""States in the accounts that SLURM may follow by queueing the job again; only the queue tells whether it did."""

LOOKS = 2
"""Looks at which a job that was known is unknown to both before it counts as lost."""

LOOKS_WITHOUT_ACCOUNTS = 10
"""The same while there are accounts that do not answer: they may know when they are back."""


@dataclass(frozen=True)
class Witnesses:
    """What each witness says of a run's jobs, by id; None of one that did not answer."""

    queue: Mapping[str, str] | None
    accounts: Mapping[str, str] | None
    has_accounts: bool = True


def ask_both(run: str) -> Witnesses:
    """Ask for all jobs of a run, by the name that they share."""
    queue = rows("squeue", "--noheader", "--states=all", f"--name={run}", "--format=%i|%T")
    columns = ("--parsable2", "--noheader", "--format=JobIDRaw,State")
    done = ask("sacct", "--allocations", *columns, "--starttime=now-2days", f"--name={run}")
    kept = real("sacct") is not None and not (done and "accounting storage is disabled" in done.stderr.lower())
    answered = kept and done is not None and done.returncode == 0
    accounts = [line.split("|") for line in done.stdout.splitlines()] if answered and done else None
    return Witnesses(_states(queue), _states(accounts), kept)


def judge(said: Witnesses, unseen: Mapping[str, int]) -> tuple[dict[str, str], dict[str, int]]:
    """Say the state of each job in a word that the plugin knows, and how often each open job was looked for in vain.

    `unseen` is what the last look gave; jobs of which nothing certain is known are left out, and so waited for.
    """
    queue, accounts = said.queue, said.accounts or {}
    found = {job: state for job, state in accounts.items() if _is_certain(state, queue)}
    found |= queue or {}
    told = {job: _plain(state) for job, state in found.items()}
    counts = dict.fromkeys((job for job, state in found.items() if state in QUEUED), 0)
    limit = LOOKS_WITHOUT_ACCOUNTS if said.has_accounts and said.accounts is None else LOOKS
    for job in {*unseen, *accounts} - set(found):
        # A silent queue tells nothing: the job may well be there.
        counts[job] = unseen.get(job, 0) + (queue is not None)
        if counts[job] >= limit:
            told[job] = "FAILED"
    return told, counts


def _is_certain(state: str, queue: Mapping[str, str] | None) -> bool:
    """Tell whether the accounts' word is enough for a job that the queue does not show."""
    if queue is None:
        return state not in _MAYBE_QUEUED_AGAIN
    return state not in QUEUED


def _plain(state: str) -> str:
    return state if state in QUEUED or state in _FINAL else "CANCELLED"


def _states(found: list[list[str]] | None) -> dict[str, str] | None:
    """Map ids to states; of ``CANCELLED by 1000`` the first word is the state."""
    if found is None:
        return None
    return {row[0].strip(): row[1].split()[0] for row in found if len(row) > 1 and row[1].strip()}
