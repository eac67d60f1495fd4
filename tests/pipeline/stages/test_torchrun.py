"""The launcher of several processes for one training: start, stop, and errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import torch

from gauntlet.config.execution import Execution
from gauntlet.core.errors import GauntletError, InputError, Interrupted
from gauntlet.learning.training.data_parallel import PROCESS_LOST
from gauntlet.learning.training.memory_record import RESTART, RestartWithLessMemory
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages import torchrun as launching
from gauntlet.pipeline.stages.train import process_group as processes
from gauntlet.pipeline.status.metadata import file_metadata
from tests.support.interruptible import MODEL, run_command, start_command, training_outcome, write_training_config


@pytest.fixture
def torchrun(tmp_path, monkeypatch):
    """Replace Python by a script; its arguments are written to a file."""

    def install(script):
        command = tmp_path / "python"
        command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{script}\n')
        command.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(command))
        return tmp_path / "arguments"

    return install


def test_torchrun_starts_the_given_number_of_processes(torchrun):
    """They run the given command on this machine."""
    arguments = torchrun("exit 0")
    launching.launch(["train", "config.yaml"], 4, where="train a")
    command = arguments.read_text().strip()
    assert command == "-m torch.distributed.run --standalone --nproc-per-node=4 -m gauntlet train config.yaml"


@pytest.mark.parametrize(("threads", "each"), [("8", "2"), ("1", "1")])
def test_the_threads_of_a_job_are_divided(torchrun, monkeypatch, tmp_path, threads, each):
    """Each process gets an equal number of the job's threads."""
    torchrun(f"echo $OMP_NUM_THREADS > {tmp_path}/threads")
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    launching.launch([], 4, where="train a")
    assert (tmp_path / "threads").read_text().strip() == each


def test_the_error_of_the_failed_process_is_raised(torchrun, capsys):
    """Errors of processes that lost it are dropped, and other output is passed on."""
    torchrun(
        f"echo 'gauntlet: {PROCESS_LOST}; its own message says why' >&2; echo epoch 1 >&2\n"
        "echo 'gauntlet: memory ran out; lower it' >&2; exit 1"
    )
    with pytest.raises(GauntletError, match=r"^memory ran out; lower it$"):
        launching.launch([], 2, where="train a")
    assert capsys.readouterr().err == "epoch 1\n"


def test_a_process_that_ends_without_a_message_is_reported(torchrun):
    """It was killed, as by the kernel when memory runs out."""
    torchrun("exit 1")
    with pytest.raises(GauntletError, match="train a: one of 2 processes ended without a message"):
        launching.launch([], 2, where="train a")


def test_a_request_to_stop_is_passed_on_and_children_are_waited_for(torchrun, tmp_path):
    """Every signal is passed on as SIGTERM."""
    torchrun(
        f"trap 'echo kept > {tmp_path}/kept; exit 1' TERM\ntouch {tmp_path}/ready\nwhile true; do sleep 0.05; done"
    )

    def stop():
        while not (tmp_path / "ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR2)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted, match="stopped by SIGUSR2"):
        launching.launch([], 2, where="train a")
    assert (tmp_path / "kept").exists()


def test_the_message_of_a_lost_process_is_known_to_the_launcher():
    """The launcher has a copy of the message, since it loads no torch."""
    assert launching._SECONDARY == PROCESS_LOST
    assert launching._RESTART == RESTART


def test_processes_are_started_again_when_one_recorded_that_it_needs_less_memory(torchrun, tmp_path, caplog):
    """The second start succeeds, and the first message is logged."""
    message = RestartWithLessMemory.of(1, 8)
    torchrun(
        f"[ -e {tmp_path}/once ] && exit 0; touch {tmp_path}/once\n"
        f"echo 'gauntlet: {PROCESS_LOST}' >&2; echo 'gauntlet: {message}' >&2; exit 1"
    )
    launching.launch([], 2, where="train a")
    assert "train a: memory ran out in process 1" in caplog.text


@pytest.mark.parametrize(
    ("environ", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, False),
        ({"SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True),
        ({"WORLD_SIZE": "2", "RANK": "0"}, True),
    ],
)
def test_distributed_processes_are_recognized(environ, several):
    """Processes of torchrun and of a SLURM step are, and a job's batch script is not."""
    assert launching.is_one_of_several(environ) is several


def test_torchs_variables_are_set_from_those_of_a_slurm_step(monkeypatch):
    """Rank, size and master are set as by submitit's helper, without other changes."""
    slurm_variables = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "1",
        "SLURM_JOB_NODELIST": "gpu[01-02]",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }
    wanted = ("MASTER_ADDR", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    for name in (*wanted, "MASTER_PORT", "SUBMITIT_EXECUTOR"):
        # Set first, so that they are removed afterwards.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in slurm_variables.items():
        monkeypatch.setenv(name, value)
    processes._export_environment()
    assert [os.environ[name] for name in wanted] == ["gpu01", "3", "4", "1", "2"]
    assert "SUBMITIT_EXECUTOR" not in os.environ


@pytest.mark.parametrize(("here", "torchrun_id", "device"), [(4, "x", "cuda:1"), (1, "", "cuda:0"), (1, "x", None)])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, here, torchrun_id, device):
    """It is chosen by local rank, or the only visible one; too few GPUs are refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(processes, "open_device", lambda execution: torch.device(execution.device))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", torchrun_id)
    if not torchrun_id:
        monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    if device is None:
        with pytest.raises(InputError, match="2 processes, but 1 GPUs here"):
            processes._own_device(Execution())
    else:
        assert processes._own_device(Execution()) == torch.device(device)


@pytest.mark.slow
def test_two_processes_train_the_model_of_one(tmp_path, monkeypatch):
    """The recipe does not depend on the number of processes."""
    monkeypatch.chdir(tmp_path)
    write_training_config(tmp_path, epochs=3, gpus=2)
    run_command(tmp_path, "prepare")
    run_command(tmp_path, "train")
    shared, losses = training_outcome()
    write_training_config(tmp_path, epochs=3, gpus=1)
    assert "up to date" in run_command(tmp_path, "train")
    run_command(tmp_path, "train", "--force")
    alone, wanted = training_outcome()
    assert losses == pytest.approx(wanted, rel=1e-4)
    for name, tensor in alone.items():
        np.testing.assert_allclose(shared[name], tensor, rtol=1e-2, atol=1e-4, err_msg=name)


CRAMPED = """
import os
import torch
from torch import nn

class Cramped(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10))

    def forward(self, x):
        if os.environ.get("RANK") == "1" and len(x) > 8 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.layers(x)
"""


@pytest.mark.slow
def test_one_process_without_memory_makes_all_use_less(tmp_path, monkeypatch):
    """Processes of 16 images each continue with 8; the result is that of one process without a limit."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cramped.py").write_text(CRAMPED)
    outcomes = []
    for gpus in (2, 1):
        write_training_config(tmp_path, epochs=2, gpus=gpus, model="cramped:Cramped")
        run_command(tmp_path, "prepare")
        said = run_command(tmp_path, "train", "--force")
        assert ("memory ran out in process 1; the next start computes fewer images at a time: 8" in said) == (gpus == 2)
        outcomes.append(training_outcome())
        part_size = file_metadata(paths.model_weights(MODEL)).get("gauntlet.part_size")
        assert part_size == ("8" if gpus == 2 else None)
    (shared, losses), (alone, wanted) = outcomes
    assert losses == pytest.approx(wanted, rel=1e-4)
    for name, tensor in alone.items():
        np.testing.assert_allclose(shared[name], tensor, rtol=1e-2, atol=1e-4, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_processes_resume_and_a_killed_one_ends_all(tmp_path, monkeypatch, number):
    """A stopped training resumes in one process; a killed process is reported at once."""
    monkeypatch.chdir(tmp_path)
    write_training_config(tmp_path, epochs=2000, gpus=2)
    run_command(tmp_path, "prepare")
    with started(tmp_path) as process:
        lines = iter(process.stderr.readline, "")
        assert any("/2000 epochs" in line for line in lines)
        children = psutil.Process(process.pid).children(recursive=True)
        workers = [
            one for one in children if "gauntlet" in one.cmdline() and "torch.distributed.run" not in one.cmdline()
        ]
        assert len(workers) == 2
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            workers[1].kill()
        said = "".join(lines)
        assert process.wait(timeout=600) == (75 if number == signal.SIGTERM else 1), said
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers)
    assert said.splitlines()[-1].startswith("gauntlet: ")
    if number == signal.SIGTERM:
        assert len(list(tmp_path.rglob("training.checkpoint"))) == 1
        write_training_config(tmp_path, epochs=2000, gpus=1)
        with started(tmp_path) as again:
            assert any("resuming from epoch" in line for line in iter(again.stderr.readline, ""))


@contextmanager
def started(folder):
    """Start a training, and end it afterwards."""
    with start_command(folder, "train") as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()
