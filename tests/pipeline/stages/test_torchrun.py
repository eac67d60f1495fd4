"""Several processes for one training: started, stopped, and reported on by the one that started them."""

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

from gauntlet.config.schema import Execution
from gauntlet.core.errors import GauntletError, InputError, Interrupted
from gauntlet.learning.training.data_parallel import PROCESS_LOST
from gauntlet.pipeline.stages import process_group as processes
from gauntlet.pipeline.stages import torchrun as launching
from tests.support.interruptible import run_command, start_command, training_outcome, write_training_config


@pytest.fixture
def torchrun(tmp_path, monkeypatch):
    """Put a script in the place of Python; its arguments are kept in a file."""

    def install(script):
        command = tmp_path / "python"
        command.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\n{script}\n')
        command.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(command))
        return tmp_path / "arguments"

    return install


def test_torchrun_is_started_with_as_many_processes(torchrun):
    """On this machine, with the command that is given."""
    arguments = torchrun("exit 0")
    launching.launch(["train", "config.yaml"], 4, where="train a")
    told = arguments.read_text().strip()
    assert told == "-m torch.distributed.run --standalone --nproc-per-node=4 -m gauntlet train config.yaml"


@pytest.mark.parametrize(("threads", "each"), [("8", "2"), ("1", "1")])
def test_the_threads_of_a_job_are_shared_too(torchrun, monkeypatch, tmp_path, threads, each):
    """Four processes of eight threads would be slower than four of two."""
    torchrun(f"echo $OMP_NUM_THREADS > {tmp_path}/threads")
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    launching.launch([], 4, where="train a")
    assert (tmp_path / "threads").read_text().strip() == each


def test_the_message_of_the_process_that_failed_is_told(torchrun, capsys):
    """Not that of those who only noticed; what else they wrote is passed on."""
    torchrun(
        f"echo 'gauntlet: {PROCESS_LOST}; its own message says why' >&2; echo epoch 1 >&2\n"
        "echo 'gauntlet: memory ran out; lower it' >&2; exit 1"
    )
    with pytest.raises(GauntletError, match=r"^memory ran out; lower it$"):
        launching.launch([], 2, where="train a")
    assert capsys.readouterr().err == "epoch 1\n"


def test_a_process_without_last_words_is_told_of(torchrun):
    """Killed, as by the kernel when memory runs out."""
    torchrun("exit 1")
    with pytest.raises(GauntletError, match="train a: one of 2 processes ended without a message"):
        launching.launch([], 2, where="train a")


def test_a_request_to_stop_is_handed_on_and_its_children_are_waited_for(torchrun, tmp_path):
    """As SIGTERM, whatever came."""
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


def test_the_words_of_those_who_noticed_are_known():
    """The launcher loads no torch, and so has them a second time."""
    assert launching._SECONDARY == PROCESS_LOST


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
def test_processes_of_torchrun_and_of_a_step_of_tasks_know_it(environ, several):
    """A batch script of a job with tasks is none of them."""
    assert launching.is_one_of_several(environ) is several


def test_a_step_of_slurm_tells_torch_by_its_variables(monkeypatch):
    """Rank, count and the first node, as submitit's helper reads them; nothing of it stays behind."""
    told = {
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
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    processes._export_environment()
    assert [os.environ[name] for name in wanted] == ["gpu01", "3", "4", "1", "2"]
    assert "SUBMITIT_EXECUTOR" not in os.environ


@pytest.mark.parametrize(("here", "torchrun_id", "device"), [(4, "x", "cuda:1"), (1, "", "cuda:0"), (1, "x", None)])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, here, torchrun_id, device):
    """By its number on the node; SLURM may show each its own alone; too few are refused."""
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
def test_the_command_trains_in_two_processes_what_it_trains_in_one(tmp_path, monkeypatch):
    """Published once, by one recipe: the other number of processes makes nothing stale."""
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stopped_processes_go_on_and_a_killed_one_ends_all(tmp_path, monkeypatch, number):
    """A request to stop is kept, and taken up by one process; one of two that is killed is reported at once."""
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
        assert process.wait(timeout=120) == (75 if number == signal.SIGTERM else 1), said
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in workers)
    assert said.splitlines()[-1].startswith("gauntlet: ")
    if number == signal.SIGTERM:
        assert len(list(tmp_path.rglob("training.checkpoint"))) == 1
        write_training_config(tmp_path, epochs=2000, gpus=1)
        with started(tmp_path) as again:
            assert any("goes on from epoch" in line for line in iter(again.stderr.readline, ""))


@contextmanager
def started(folder):
    """Start a training, and leave nothing of it."""
    with start_command(folder, "train") as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()
