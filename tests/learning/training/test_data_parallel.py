"""A training that several processes share is the training of one, to rounding, whatever its loss and its adversary."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
import torch

from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.registry import LOSSES
from tests.support import ROOT, shared_training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where what several processes found lies, once they have ended."""
    made = tmp_path_factory.mktemp("several")
    shared_training.checkpoints(made, "one").save(
        shared_training.run_half_way(shared_training.new_run(shared_training.RESUMED)).live_state()
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(shared_training.PROCESSES)}
    environment = {**os.environ, **group, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.shared_training", str(made)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env={**environment, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(shared_training.PROCESSES)
    ]
    said = [process.communicate(timeout=900)[1] for process in processes]
    assert processes[0].returncode == 0, "\n".join(said)
    return made


@pytest.fixture(scope="module")
def found(folder):
    """What several processes found."""
    return torch.load(folder / "found.pt")


def assert_same(one, other):
    """Weights and history agree to what rounding does in a few steps of float64 on images of float32."""
    assert one["weights"].keys() == other["weights"].keys()
    for name, tensor in one["weights"].items():
        torch.testing.assert_close(
            other["weights"][name], tensor, rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )
    for before, after in zip(one["history"], other["history"], strict=True):
        assert [name for name, value in after.items() if value is None] == [
            name for name, value in before.items() if value is None
        ]
        measured = {name: value for name, value in before.items() if value is not None}
        assert {name: after[name] for name in measured} == pytest.approx(measured, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", shared_training.RUNS)
def test_several_processes_train_what_one_does(found, name):
    """Uneven shares, a process without any, batch statistics, attacks, negatives, penalties: to rounding in float64."""
    assert_same(shared_training.run_to_end(shared_training.new_run(name)), found["runs"][name])


def test_every_loss_that_is_a_batch_statistic_is_among_them():
    """A new one is to be tried, too, unless it is made of those tried."""
    tried = {loss.name for _, loss, _ in shared_training.RUNS.values()} | {"hkr_torchlip"}
    assert {name for name, entry in LOSSES.catalogue.items() if entry.tags.get("batch")} <= tried


def test_a_training_is_taken_up_by_another_number_of_processes(folder, found):
    """From the middle of an epoch, from one to several and back, to the unbroken training's end."""
    unbroken = shared_training.run_to_end(shared_training.new_run(shared_training.RESUMED))
    assert_same(unbroken, found["taken up"])
    run = shared_training.new_run(shared_training.RESUMED)
    state = shared_training.checkpoints(folder, "several").load()
    assert state is not None
    assert run.fits(state)
    run.restore(state)
    assert_same(unbroken, shared_training.run_to_end(run))


def test_what_one_wants_all_agree_on(found):
    """A request to stop reaches one process first."""
    assert found["any"] == [True, False]


def test_layers_that_see_a_whole_batch_are_refused(found):
    """Batch statistics and the network's own draws; others are not."""
    refusals = found["refusals"]
    assert refusals["BatchNorm2d"].startswith("BatchNorm2d computes its statistics over the whole batch")
    assert "training.gpus: 1" in refusals["Dropout"]
    assert refusals["Dropout2d"]
    assert refusals["ReLU"] == ""


def test_weights_that_drift_apart_are_told(found):
    """In one number of one process."""
    assert found["drifted"].startswith("the weights of the processes have drifted apart")


def test_a_process_that_dies_ends_the_others_with_an_error(found):
    """Without waiting for what will not come."""
    assert found["lost"].startswith("another process of this training ended")


@pytest.mark.parametrize(("total", "count"), [(10, 3), (2, 3), (16, 4), (7, 1)])
def test_shares_cover_a_batch_evenly(total, count):
    """Each row once, in order, sizes that differ by one at most."""
    processes = object.__new__(DataParallelGroup)
    processes.world_size = count
    shares = [processes.rows(total, rank) for rank in range(count)]
    assert [row for share in shares for row in range(share.start, share.stop)] == list(range(total))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == -(-total // count)
