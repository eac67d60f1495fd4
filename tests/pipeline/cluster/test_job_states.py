"""Job states merged from `squeue` and `sacct`, without a SLURM."""

from __future__ import annotations

import json

import pytest

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.cluster import job_states, sacct
from gauntlet.pipeline.cluster.job_states import MAX_MISSES, MAX_MISSES_WITHOUT_SACCT, ReportedStates, merge_states


def merged(queue, accounts, *, has_accounting=True):
    """Return the merged states of jobs."""
    return merge_states(ReportedStates(queue, accounts, has_accounting), {})[0]


@pytest.mark.parametrize(
    ("queue", "accounts", "state"),
    [
        ({"7": "RUNNING"}, {"7": "RUNNING"}, "RUNNING"),
        ({}, {"7": "COMPLETED"}, "COMPLETED"),
        ({"7": "COMPLETED"}, None, "COMPLETED"),
        # Queued again by SLURM: the accounts still hold how it ended before.
        ({"7": "PENDING"}, {"7": "PREEMPTED"}, "PENDING"),
        ({"7": "PENDING"}, {"7": "NODE_FAIL"}, "PENDING"),
        # Not queued again: the plugin would wait for ever.
        ({}, {"7": "PREEMPTED"}, "CANCELLED"),
        ({"7": "PREEMPTED"}, None, "CANCELLED"),
        ({}, {"7": "NODE_FAIL"}, "NODE_FAIL"),
        ({"7": "SOME_NEW_STATE"}, None, "CANCELLED"),
        # Queued again by SLURM, at once or by an administrator who repairs the node.
        ({"7": "EXPEDITING"}, {"7": "NODE_FAIL"}, "EXPEDITING"),
        ({"7": "LAUNCH_FAILED"}, None, "LAUNCH_FAILED"),
        # Whether it was queued again is not known.
        (None, {"7": "PREEMPTED"}, None),
        (None, {"7": "FAILED"}, "FAILED"),
        # Nobody knows anything: it is waited for.
        (None, None, None),
    ],
)
def test_queue_and_accounting_are_merged(queue, accounts, state):
    """The queue's state has precedence, and uncertain states are left out."""
    assert merged(queue, accounts).get("7") == state


def test_only_the_first_word_of_a_state_counts(monkeypatch):
    """Accounting appends who canceled a job, which the plugin does not understand."""
    monkeypatch.setattr(job_states, "query_rows", lambda *command: [])
    answer = type("Done", (), {"stdout": "7|CANCELLED by 1000\n", "stderr": "", "returncode": 0})
    monkeypatch.setattr(job_states, "run_command", lambda *command: answer)
    monkeypatch.setattr(job_states, "find_command", lambda name: f"/usr/bin/{name}")
    assert merge_states(job_states.query_states("run"), {})[0] == {"7": "CANCELLED"}


@pytest.mark.parametrize(
    ("accounts", "has_accounting", "looks"),
    [
        ({}, True, MAX_MISSES),
        (None, False, MAX_MISSES),
        ({"7": "RUNNING"}, True, MAX_MISSES),
        (None, True, MAX_MISSES_WITHOUT_SACCT),
    ],
)
def test_a_forgotten_job_has_failed(accounts, has_accounting, looks):
    """It fails at the second query, or later if accounting does not answer."""
    _, unseen = merge_states(ReportedStates({"7": "RUNNING"}, accounts, has_accounting), {})
    for look in range(1, looks + 1):
        found, unseen = merge_states(ReportedStates({}, accounts, has_accounting), unseen)
        assert found == ({"7": "FAILED"} if look == looks else {})


def test_a_silent_queue_loses_no_job():
    """A job is kept however long the queue does not answer; misses are counted anew when it is seen."""
    _, unseen = merge_states(ReportedStates({"7": "RUNNING"}, None, False), {})
    for _ in range(20):
        found, unseen = merge_states(ReportedStates(None, None, False), unseen)
        assert found == {}
    _, unseen = merge_states(ReportedStates({}, None, False), unseen)
    _, unseen = merge_states(ReportedStates({"7": "RUNNING"}, None, False), unseen)
    assert unseen == {"7": 0}


def test_the_command_has_the_plugins_format_and_never_fails(tmp_path, monkeypatch, capsys):
    """It lists every job of the run, also on a full disk, or none if queue and accounting fail."""
    monkeypatch.chdir(tmp_path)
    question = ["-X", "--parsable2", "--format=JobIdRaw,State", "--starttime", "2026-11-19T10:00", "--name", "run-1"]
    monkeypatch.setattr(
        sacct, "query_states", lambda run: ReportedStates({"7": "RUNNING", "8": "TIMEOUT"}, None, False)
    )
    assert sacct.main(question) == 0
    assert capsys.readouterr().out == "7|RUNNING\n8|TIMEOUT\n"
    assert json.loads((sacct.MISSES_FOLDER / "run-1.json").read_text()) == {"7": 0}
    monkeypatch.setattr(sacct, "query_states", lambda run: ReportedStates(None, None))
    assert sacct.main(question) == 0
    assert capsys.readouterr().out == ""

    def full(path, misses):
        raise GauntletError("the disk is full")

    monkeypatch.setattr(sacct, "write_json", full)
    monkeypatch.setattr(sacct, "query_states", lambda run: ReportedStates({"7": "COMPLETED"}, None, False))
    assert sacct.main(question) == 0
    assert capsys.readouterr().out == "7|COMPLETED\n"

    def broken(run):
        raise OSError("no more processes")

    monkeypatch.setattr(sacct, "query_states", broken)
    assert sacct.main(question) == 0


def test_other_queries_go_to_slurms_own_command(monkeypatch, capsys):
    """The replacement at the front of PATH is skipped, and an error of SLURM's gives no answer."""
    answers = {"Reason": (0, "None\n"), "nodelist": (1, "junk")}

    def ask(name, *arguments):
        code, out = next(value for key, value in answers.items() if key in " ".join(arguments))
        return type("Done", (), {"stdout": out, "stderr": "", "returncode": code})

    monkeypatch.setattr(sacct, "run_command", ask)
    assert sacct.main(["-j", "7.0", "--format=Reason", "--noheader"]) == 0
    assert capsys.readouterr().out == "None\n"
    assert sacct.main(["-j", "7", "-n", "-X", "-o", "nodelist%-256"]) == 0
    assert capsys.readouterr().out == ""
