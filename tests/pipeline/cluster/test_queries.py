"""Queries of SLURM with commands that print unusual lines, follow a user's settings, or do not answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline.cluster.commands import REPLACEMENTS, query_rows, with_replacements
from gauntlet.pipeline.cluster.controller import job as controller_job
from gauntlet.pipeline.cluster.controller.job import Controller
from gauntlet.pipeline.cluster.controller.submission import _queue_state
from gauntlet.pipeline.cluster.partitions import list_partitions
from gauntlet.pipeline.cluster.queue import Job, snakemake_jobs
from gauntlet.pipeline.status.queue_poller import QueuePoller


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a command of SLURM first on PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return write


def test_replacements_are_run_by_the_interpreter_of_the_run(install, monkeypatch):
    """`python` may be another one, without this package, or missing: Snakemake's plugin would lose all of its jobs."""
    install("python", "exit 1")
    install("sacct", 'echo "asked $1"')
    variables = with_replacements()
    folders = variables["PATH"].split(os.pathsep)
    assert folders[:2] == [str(REPLACEMENTS), str(Path(sys.executable).parent)]
    folders.remove(str(Path(sys.executable).parent))
    command = [REPLACEMENTS / "sacct", "--version"]
    done = subprocess.run(
        command, env={**os.environ, **variables, "PATH": os.pathsep.join(folders)}, capture_output=True
    )
    assert (done.returncode, done.stdout) == (0, b"asked --version\n")


def test_a_users_settings_of_the_commands_have_no_effect(install, monkeypatch):
    """They choose what is listed, and how times are printed; the cluster's own settings stay."""
    for name in ("SQUEUE_STATES", "SINFO_PARTITION", "SCANCEL_INTERACTIVE", "SLURM_TIME_FORMAT", "SLURM_CONF"):
        monkeypatch.setenv(name, name)
    install("squeue", "echo $SQUEUE_STATES $SINFO_PARTITION $SCANCEL_INTERACTIVE $SLURM_TIME_FORMAT $SLURM_CONF")
    assert query_rows("squeue") == [["SLURM_CONF"]]
    install("squeue", 'echo "1|RUNNING|None|rule_a$SQUEUE_STATES|$PWD"')
    queue = QueuePoller(Path.cwd())
    queue.poll()
    queue._running[0].wait(1200)
    assert queue.poll() == [Job("1", "RUNNING", "", "rule_a")]


def test_jobs_in_hidden_partitions_are_found(install):
    """`squeue` lists them with `--all` only."""
    install("squeue", 'case " $* " in *" --all "*) echo "1|RUNNING|None|rule_a|$PWD";; esac')
    assert snakemake_jobs() == [Job("1", "RUNNING", "", "rule_a")]


def test_a_silent_queue_is_an_error(install):
    """Jobs of an earlier controller would otherwise be submitted again, and the code that they use removed."""
    install("squeue", "echo 'slurm_load_jobs error: Socket timed out' >&2; exit 1")
    with pytest.raises(GauntletError, match="squeue: slurm_load_jobs error: Socket timed out; try again"):
        snakemake_jobs()


def test_partitions_that_are_not_listed_are_an_error(install):
    """Jobs would request no GPU. The answer is not kept for the controller's job."""
    install("sinfo", "exit 1")
    known = {}
    with pytest.raises(GauntletError, match="sinfo: SLURM does not answer"):
        list_partitions(known)
    assert known == {}
    install("sinfo", "")
    assert list_partitions(known) == ()


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("7|RUNNING|None|controller|/a", "RUNNING"),
        ("7|PENDING|Resources|(null)|/a|b", "PENDING (Resources)"),
        ("7_[1-5]|PENDING|None|other|/a", ""),
        ("70|RUNNING|None|other|/a", ""),
    ],
)
def test_the_state_of_the_controller_is_found_among_other_lines(install, line, state):
    """SLURM names the cluster in a line of its own where several are asked."""
    install("squeue", f"echo 'CLUSTER: one'; echo 'a notice of the site'; echo '{line}'")
    assert _queue_state("7") == state


def test_a_later_start_waits_until_the_queue_answers(monkeypatch, capsys):
    """Without an answer it is not known whether jobs of the earlier start still run."""
    answers = iter([GauntletError("no answer", where="squeue"), [Job("5", "RUNNING", "", "rule_a")], []])

    def asked():
        answer = next(answers)
        if isinstance(answer, GauntletError):
            raise answer
        return answer

    monkeypatch.setattr(controller_job, "snakemake_jobs", asked)
    monkeypatch.setattr(controller_job, "_QUEUE_POLL_S", 0.0)
    Controller((), 60.0, 600.0)._wait_for_earlier_jobs(SimpleNamespace(requested=False))
    assert next(answers, None) is None
    assert capsys.readouterr().err.splitlines() == [
        "gauntlet: waiting for an answer (squeue: no answer)",
        "gauntlet: waiting for 1 jobs of an earlier start: 5",
    ]
