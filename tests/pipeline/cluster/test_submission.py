"""Submission of a controller without a SLURM: arguments, refusals, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.user_modules import FROZEN_VARIABLE
from gauntlet.pipeline import paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.cluster.controller import submission
from gauntlet.pipeline.cluster.controller.job import child_environment
from gauntlet.pipeline.cluster.controller.record import ControllerRecord, Submission, last_submission, read_record
from gauntlet.pipeline.cluster.partitions import PARTITIONS_VARIABLE
from gauntlet.pipeline.project import CHECKOUT, SNAKEFILE
from gauntlet.pipeline.snakemake_arguments import config_files, with_config_files
from tests.support.stub_outputs import CONFIG, write_config
from tests.support.workflow import link_workflow

SCONTROL = """#!/bin/sh
echo "$@" >> scontrol.calls
case $1 in show) echo "JobId=7 JobState=RUNNING PreemptTime={preempted} EndTime=$(date -d '+600 seconds' +%FT%T)";; esac
"""

SNAKEMAKE = """
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path('drained').touch()
    sys.exit({code})
signal.signal(signal.SIGTERM, leave)
pathlib.Path('calls').open('a').write(' '.join(sys.argv[1:]) + '\\n')
if '--unlock' not in sys.argv:
    pathlib.Path('working').touch()
    time.sleep({seconds})
    sys.exit({code})
"""


def commands(folder, monkeypatch, **texts):
    """Put commands first on PATH."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start the job's process with a sleeping Snakemake; return it once Snakemake works, or has ended."""
    monkeypatch.chdir(tmp_path)
    processes = []

    def started(*, seconds=600, code=1, preempted="None"):
        commands(tmp_path, monkeypatch, scontrol=SCONTROL.format(preempted=preempted), squeue="#!/bin/sh\n")
        (tmp_path / "snakemake.py").write_text(SNAKEMAKE.format(seconds=seconds, code=code))
        Path("working").unlink(missing_ok=True)
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        run = (
            "from gauntlet.pipeline.cluster.controller.job import Controller; "
            "Controller(('--profile', 'slurm'), 60.0, 60.0)()"
        )
        processes.append(subprocess.Popen([sys.executable, "-c", run], stderr=subprocess.DEVNULL))
        while not Path("working").exists() and processes[-1].poll() is None:
            pass
        return processes[-1]

    yield started
    for process in processes:
        process.kill()
        process.wait()


def requeued():
    calls = Path("scontrol.calls")
    return calls.exists() and "requeue 7" in calls.read_text()


@pytest.mark.parametrize("code", [0, 3])
def test_the_job_has_the_exit_code_of_its_run(start, code):
    """A finished or failed run is not started again."""
    process = start(seconds=0, code=code)
    process.wait()
    assert process.returncode == code
    assert read_record("7").end.endswith(f"Snakemake's exit code {code}")
    assert not requeued()


def test_near_its_limit_it_drains_and_requeues_itself(start):
    """SLURM sends SIGUSR2 before the limit, and the next start unlocks the folder."""
    process = start()
    process.send_signal(signal.SIGUSR2)
    process.wait()
    assert process.returncode == 0
    assert Path("drained").exists()
    assert requeued()
    assert read_record("7").end.endswith("requeued")
    again = start(seconds=0)
    again.wait()
    command = f"--snakefile {SNAKEFILE} --profile {CHECKOUT}/profiles/slurm"
    assert Path("calls").read_text().splitlines() == [command, f"{command} --unlock", command]
    assert len(read_record("7").starts) == 2


def test_a_run_that_finishes_while_draining_is_not_requeued(start):
    """The job ends with the run's exit code."""
    process = start(code=0)
    process.send_signal(signal.SIGUSR2)
    process.wait()
    assert (process.returncode, requeued()) == (0, False)


@pytest.mark.parametrize(("preempted", "again"), [("None", False), ("2026-11-21T12:00:00", True)])
def test_sigterm_is_followed_by_another_start_only_when_slurm_preempts(start, preempted, again):
    """`scancel` sends the same signal, and ends the run."""
    process = start(preempted=preempted)
    process.send_signal(signal.SIGTERM)
    process.wait()
    assert requeued() == again
    assert process.returncode == (0 if again else 1)


def test_snakemake_does_not_inherit_the_controllers_resources():
    """Jobs would otherwise request the controller's memory and time."""
    inherited = {"SLURM_JOB_ID": "7", "SBATCH_MEM": "1", "SUBMITIT_EXECUTOR": "slurm", "SLURM_CONF": "a", "HOME": "b"}
    inherited[PARTITIONS_VARIABLE] = "those of its submission"
    kept = {"SLURM_CONF": "a", "HOME": "b", "PYTHONSAFEPATH": "1"}
    assert child_environment("7", inherited) == {**kept, lock.JOB_VARIABLE: "7"}


@pytest.mark.parametrize(
    ("arguments", "wanted", "replaced"),
    [
        ("", "config.yaml", "--configfile c/config.yaml"),
        ("-R train", "config.yaml", "-R train --configfile c/config.yaml"),
        ("--configfile a.yaml b.yaml --jobs 9", "a.yaml b.yaml", "--configfile c/a.yaml c/b.yaml --jobs 9"),
        ("--jobs 9 --configfiles=a.yaml", "a.yaml", "--jobs 9 --configfiles=c/a.yaml"),
        # After an equals sign the option takes no further name; without it in between, `-R` would.
        ("-R train --configfile=a.yaml figures", "a.yaml", "-R train --configfile=c/a.yaml figures"),
    ],
)
def test_configuration_files_are_found_among_snakemakes_arguments(arguments, wanted, replaced):
    """`--configfile` and `--configfiles` are read in all their forms, and replaced where they are."""
    files = [Path(file) for file in wanted.split()]
    assert config_files(arguments.split()) == files
    assert with_config_files(arguments.split(), [Path("c") / file for file in files]) == replaced.split()


@pytest.mark.parametrize("arguments", [["--directory=elsewhere"], ["-n", "-d", "elsewhere"]])
def test_another_working_folder_is_refused(tmp_path, monkeypatch, arguments):
    """Lock, records and jobs of an earlier controller would be looked for here, where there are none."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"--directory: the controller, .*; submit it there, without this option"):
        submission.submit(arguments)
    assert list(tmp_path.iterdir()) == []


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "gauntlet", "submit", *arguments], capture_output=True, text=True)


def test_without_slurm_or_with_a_wrong_configuration_nothing_is_submitted(tmp_path, monkeypatch):
    """There is one line and exit code 2."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    commands(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for arguments, message in (
        ((), "SLURM is not installed on this host"),
        (("--cancel",), "squeue and scancel: SLURM is not installed on this host"),
        (("--configfile", "none.yaml"), "none.yaml"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    link_workflow(tmp_path)
    (tmp_path / "slurm").symlink_to("profiles/slurm")
    commands(tmp_path, monkeypatch, sbatch="#!/bin/sh\nexit 9\n", srun="#!/bin/sh\nexit 9\n", squeue="#!/bin/sh\n")
    for arguments, message in (
        (("-n",), "a dry run needs no job"),
        (("--help-me",), "unrecognized arguments: --help-me"),
    ):
        done = run(*arguments)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    done = run("--status", "--cancel")
    assert (done.returncode, "take no other argument" in done.stderr) == (2, True)
    assert run("--status").stdout == "no controller was submitted from this folder\n"


@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("sbatch: error: invalid partition specified: x", "SLURM rejects the controller (sbatch: error: invalid"),
        ("", "SLURM rejects the controller (without a reason); set your account and partition"),
        ("sbatch: error: fetch_config: DNS SRV lookup failed\nsbatch: error: _establish_config_source: failed to fetch "
         "config\nsbatch: fatal: Could not establish a configuration source", "no SLURM answers (sbatch: error: _est"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
         "no SLURM answers (sbatch: error: Batch job submission failed"),
    ],
)  # fmt: skip
def test_a_refused_submission_leaves_nothing_behind(tmp_path, monkeypatch, is_frozen, answer, problem):
    """Nor does it remove what an earlier one has left, and account and partition are named only if SLURM answers."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    for name in ("PYTHONSAFEPATH", "PYTHONPATH", FROZEN_VARIABLE, PARTITIONS_VARIABLE):
        # Submissions set them for the job; they are as before after the test.
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(submission, "_dry_run", lambda *_: None)
    text = f"#!/bin/sh\ncat >&2 <<'EOF'\n{answer}\nEOF\nexit 1\n"
    commands(tmp_path, monkeypatch, sbatch=text, srun="#!/bin/sh\n", squeue="#!/bin/sh\n", sinfo="#!/bin/sh\n")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(GauntletError) as error:
        submission.submit([], is_frozen=is_frozen)
    assert problem in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    earlier = paths.FROZEN_CODE / "0123"
    earlier.mkdir(parents=True)
    with pytest.raises(GauntletError):
        submission.submit([], is_frozen=is_frozen)
    assert list(paths.CONTROLLER.rglob("*")) == [paths.FROZEN_CODE, earlier]


def test_a_killed_controller_is_reported(tmp_path, monkeypatch):
    """The last lines of its log are shown."""
    monkeypatch.chdir(tmp_path)
    commands(tmp_path, monkeypatch, squeue="#!/bin/sh\necho '8|RUNNING|None'\n")
    sent = Submission(job="7", arguments=("--profile", "slurm"), at="2026-11-21T12:00:00Z")
    sent.write()
    assert last_submission() == sent
    ControllerRecord().started("n1").write("7")
    sent.log.write_text("slurmstepd: error: Detected 1 oom-kill event\n")
    report = run("--status").stdout
    assert "job 7, ended" in report
    assert "killed, or its node failed" in report
    assert "oom-kill" in report
    Submission(job="8", arguments=(), at="2026-11-21T12:00:00Z").write()
    assert "job 8, RUNNING" in run("--status").stdout
    commands(tmp_path, monkeypatch, squeue="#!/bin/sh\necho 'squeue: error: timed out' >&2; exit 1\n")
    done = run("--status")
    assert (done.returncode, "squeue: error: timed out" in done.stderr) == (1, True)
    (paths.CONTROLLER / "submitted.json").write_text("{")
    done = run("--status")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        ["gauntlet: logs/controller/submitted.json: the file is damaged; delete it"],
    )


def test_locks_of_the_same_job_or_of_ended_jobs_are_taken_over(tmp_path, monkeypatch):
    """The host does not matter, and a running job's lock stays."""
    other = {**vars(lock.current_holder()), "host": "elsewhere", "job": "7"}
    (tmp_path / lock.NAME).write_text(json.dumps(other))
    commands(tmp_path, monkeypatch, squeue="#!/bin/sh\necho 7\n")
    assert not lock.holder(tmp_path).is_dead
    monkeypatch.setenv(lock.JOB_VARIABLE, "7")
    assert lock.holder(tmp_path).is_dead
    assert lock.acquire(tmp_path).job == "7"
    monkeypatch.delenv(lock.JOB_VARIABLE)
    (tmp_path / lock.NAME).write_text(json.dumps(other))
    for answer, dead in (("echo 8", True), ("echo 8; exit 1", False)):
        commands(tmp_path, monkeypatch, squeue=f"#!/bin/sh\n{answer}\n")
        assert lock.holder(tmp_path).is_dead is dead
    # SLURM may hide the jobs of another user.
    commands(tmp_path, monkeypatch, squeue="#!/bin/sh\n")
    (tmp_path / lock.NAME).write_text(json.dumps(other | {"user": "another"}))
    assert not lock.holder(tmp_path).is_dead
