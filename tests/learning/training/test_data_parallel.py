"""Data-parallel training equals the training of one process to rounding, for every loss and adversary."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys

import pytest
import torch

from gauntlet.core.errors import GauntletError
from gauntlet.core.signals import StopRequest
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.data_parallel import _collective as collective
from gauntlet.learning.training.pauses import Pauses
from gauntlet.registry import LOSSES
from tests.support import ROOT, shared_training


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder with the results of several processes."""
    made = tmp_path_factory.mktemp("shared_training")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.support.shared_training", str(made)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def found(folder):
    """The results of several processes."""
    return torch.load(folder / "found.pt")


class Alone:
    """Group of one process that records what it agreed on."""

    def __init__(self):
        self.agreed = []

    def maxima(self, values):
        """Return the values."""
        self.agreed.append(values)
        return values


def assert_same(one, other):
    """Compare weights and history up to the rounding of a few float64 steps on float32 images."""
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
def test_several_processes_train_the_network_of_one(found, name):
    """Uneven or empty shares, batch statistics, adversaries, negatives and penalties agree to rounding."""
    assert_same(shared_training.run_to_end(shared_training.new_run(name)), found["runs"][name])


def test_several_processes_train_in_bfloat16(found):
    """Weights agree to the rounding of bfloat16, a small part of what training changes."""
    run = shared_training.bfloat16_run()
    before = {name: tensor.detach().clone() for name, tensor in run.network.named_parameters()}
    alone, shared = shared_training.run_to_end(run)["weights"], found["bfloat16"]["weights"]
    assert distance(shared, alone, before) < distance(alone, before, before) / 10


def distance(first, second, names):
    """Return the L2 distance over the tensors of these names together."""
    return sum(float((first[name] - second[name]).square().sum()) for name in names) ** 0.5


def test_every_loss_of_batch_statistics_is_tested():
    """A new loss of batch statistics must be added to the runs."""
    tried = {loss.name for _, loss, _ in shared_training.RUNS.values()} | {"hkr_torchlip"}
    assert {name for name, entry in LOSSES.catalog.items() if entry.tags.get("batch")} <= tried


def test_a_training_resumes_with_another_number_of_processes(folder, found):
    """From one process to several and back, in the middle of an epoch, the result is the same."""
    unbroken = shared_training.run_to_end(shared_training.new_run(shared_training.RESUMED))
    assert_same(unbroken, found["taken up"])
    run = shared_training.new_run(shared_training.RESUMED)
    state = shared_training.checkpoints(folder, "several").load()
    assert state is not None
    assert run.fits(state)
    run.restore(state)
    assert_same(unbroken, shared_training.run_to_end(run))


def test_a_stop_request_of_one_process_pauses_all_within_two_seconds(found):
    """They agree about once a second, not after every step, and continue to the bytes of an unbroken run."""
    paused = found["paused"]
    assert paused["stopped"]
    seconds = 0.1 * (paused["steps"] - shared_training.REQUESTED)
    assert 0 <= seconds <= 2
    # After 1, 2, 4 and 8 steps, then after every 10.
    assert paused["agreements"] <= 5 + paused["steps"] / 10
    for name, tensor in paused["unbroken"].items():
        assert torch.equal(paused["resumed"][name], tensor), name


def test_one_process_pauses_at_once():
    """It needs no agreement."""
    stop = StopRequest("a test")
    pauses = Pauses(None, stop, None)
    assert not pauses.after_step()
    stop.received = signal.SIGTERM
    assert pauses.after_step()
    assert pauses.stopped


@pytest.mark.parametrize(("step_s", "largest"), [(30.0, 1), (0.3, 3), (0.0, 4096)])
def test_the_steps_between_agreements_follow_their_time(step_s, largest):
    """One second's worth by the slowest process, and at most twice as many as before."""
    group, steps = Alone(), 0
    pauses = Pauses(None, None, group, clock=lambda: step_s * steps)
    while steps < 20000:
        steps += 1
        pauses.after_step()
    intervals = [-values[2] for values in group.agreed]
    assert max(intervals[:12]) == largest
    assert all(after <= 2 * before for before, after in itertools.pairwise([1, *intervals]))


def test_layers_that_cannot_be_shared_are_refused_by_name(found):
    """Layers that mix samples in their own way, and modules that draw and have submodules."""
    refusals = found["refusals"]
    assert "the outputs of Centered (body.1) depend on the rest of the batch" in refusals["Centered"]
    assert "training.gpus: 1" in refusals["Centered"]
    assert "DrawingBlock (body.1) draws random numbers itself" in refusals["DrawingBlock"]
    assert "the buffer body.1.running_mean depends on how a batch is divided" in refusals["InstanceNorm2d"]
    assert refusals["BatchNorm2d"] == refusals["Sequential"] == ""


def test_diverged_weights_are_detected(found):
    """A difference in one number of one process is an error, also if the number is NaN and the others are zero."""
    messages = [error.partition(";")[0] for error in found["drifted"].values()]
    assert messages == ["", *3 * ["the weights of the processes have drifted apart"]]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("NCCL error: unhandled cuda error, Cuda failure 2 'out of memory'"),
    ],
    ids=["torch", "NCCL"],
)
def test_memory_that_runs_out_in_a_collective_operation_is_no_lost_process(error):
    """The training then restarts with smaller parts; any other failure means that a process is gone."""
    with pytest.raises(type(error), match="out of memory"), collective():
        raise error
    with pytest.raises(GauntletError, match="another process of this training ended"), collective():
        raise RuntimeError("Connection closed by peer")


def test_a_process_that_dies_ends_the_others_with_an_error(found):
    """The others do not wait for it."""
    assert found["lost"].startswith("another process of this training ended")


@pytest.mark.parametrize(("total", "count"), [(10, 3), (2, 3), (16, 4), (7, 1)])
def test_shares_cover_a_batch_evenly(total, count):
    """Each row is in one share, in order, and sizes differ by at most one."""
    processes = object.__new__(DataParallelGroup)
    processes.world_size = count
    shares = [processes.rows(total, rank) for rank in range(count)]
    assert [row for share in shares for row in range(share.start, share.stop)] == list(range(total))
    sizes = [share.stop - share.start for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) == -(-total // count)
