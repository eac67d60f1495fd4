"""Checkpoints: a training that is stopped, killed or out of memory resumes to the same bytes, or states why not."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import itertools
import logging
import os
import pickle
import random
import signal
from pathlib import Path

import pytest
import torch

from gauntlet.config.variants import Recovery, Training
from gauntlet.core import files
from gauntlet.core.errors import GauntletError, Interrupted
from gauntlet.core.signals import StopRequest
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.training import checkpoints as module
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
HEAD = {"name": "softmax", "hidden": 8}
QUICK = Training(epochs=3, batch_size=64)
RUNS = {
    "softmax with adam": (
        Spec("cnn", {"widths": [4, 4], "head": HEAD}),
        Spec("cross_entropy"),
        replace(QUICK, optimizer=Spec("adam", {"amsgrad": True, "weight_decay": 1e-3}), patience=2),
    ),
    "lipschitz with hkr": (
        Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}),
        Spec("hkr"),
        replace(QUICK, optimizer=Spec("adam", {"lr": 1e-2})),
    ),
    "momentum, cosine, augmentation": (
        Spec("cnn", {"widths": [4, 4], "head": HEAD}),
        Spec("cross_entropy"),
        replace(
            QUICK,
            optimizer=Spec("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
            schedule=Spec("cosine"),
            augmentation=[Spec("shift", {"pixels": 1}), Spec("gaussian_noise", {"std": 0.1})],
        ),
    ),
    "a collapse, with all that makes a step": (
        Spec("cnn", {"widths": [4, 4], "head": HEAD}),
        Spec("tests.support.interruptible:squared_error"),
        replace(
            QUICK,
            schedule=Spec("tests.support.interruptible:exploding_rate"),
            regularizers=[Spec("l2", {"strength": 1e-3}), Spec("max_fit", {"start_epoch": 3})],
            augmentation=[Spec(name) for name in ("random_resized_crop", "rotation", "random_erasing")],
            negatives=Spec("overlay", {"share": 0.3}),
            recovery=Recovery(samples=50, frozen_epochs=1),
        ),
    ),
    "pgd and scrambling": (
        Spec("cnn", {"widths": [4, 4], "head": HEAD}),
        Spec("tests.support.interruptible:squared_error"),
        replace(
            QUICK,
            adversary=Spec("pgd", {"epsilon": 0.1, "steps": 2}),
            negatives=Spec("scrambling", {"blocks": [3], "start_epoch": 2}),
            recovery=Recovery(),
        ),
    ),
    "pgd that warms up": (
        Spec("cnn", {"widths": [4, 4], "head": HEAD}),
        Spec("cross_entropy"),
        replace(QUICK, adversary=Spec("pgd", {"epsilon": 0.1, "norm": "l2", "steps": 2, "warmup_epochs": 2})),
    ),
    "lipschitz with fgsm": (
        Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}),
        Spec("hkr"),
        replace(QUICK, optimizer=Spec("adam", {"lr": 1e-2}), adversary=Spec("fgsm", {"epsilon": 0.1})),
    ),
}


def train(name, **how):
    """Train one of the runs from its beginning."""
    spec, loss, settings = RUNS[name]
    shape = DATA.splits["train"].image_shape
    network = build(spec, image_shape=shape, num_classes=10, mean=DATA.mean, std=DATA.std, seed=0)
    return fit(network, loss, *SPLITS, settings=settings, seed=0, **how)


def outcome(fitted):
    """Return everything that a run decides."""
    return (
        tensor_digest(fitted.network.state_dict()),
        fitted.kept_epoch,
        fitted.history.drop_columns(list(VOLATILE)).to_pylist(),
    )


@functools.cache
def unbroken_outcome(name):
    """Return the outcome of a run without a stop."""
    return outcome(train(name))


def at_step(monkeypatch, act, *numbers):
    """Call a function after the given steps of all runs together, counted from 1."""
    count, real = itertools.count(1), TrainingRun._step

    def step(self, images, labels):
        real(self, images, labels)
        if next(count) in numbers:
            act()

    monkeypatch.setattr(TrainingRun, "_step", step)


def stopped_by(number):
    """Send this process a signal."""
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_at_any_steps_ends_with_the_same_bytes(tmp_path, monkeypatch, name):
    """A run is stopped by a signal three times, in and between epochs, and resumed from its file."""
    unbroken = unbroken_outcome(name)
    steps = sorted(random.Random(name).sample(range(1, 15), 3))
    at_step(monkeypatch, stopped_by(signal.SIGTERM), *steps)
    done, resumed = [], None
    while resumed is None:
        kept = Checkpoints(tmp_path / "c", recipe="r")
        with contextlib.suppress(Interrupted), StopRequest() as stop:
            resumed = train(name, resume=kept.load(), checkpoints=kept, stop=stop)
        epochs, step = _position(kept)
        done.append(5 * epochs + step)
    assert done == [*steps, steps[-1]], "no step is lost"
    assert outcome(resumed) == unbroken


def test_a_stop_is_reported_with_the_kept_step(tmp_path, monkeypatch):
    """The message names cell, signal, epoch and step; the exit code is 75."""
    at_step(monkeypatch, stopped_by(signal.SIGUSR2), 7)
    said = "train cell: stopped by SIGUSR2; epoch 2, step 2 of 5 is kept; the same command continues from there"
    with pytest.raises(Interrupted, match=f"^{said}$") as caught, StopRequest("train cell") as stop:
        train("softmax with adam", checkpoints=Checkpoints(tmp_path / "c", recipe="r"), stop=stop)
    assert caught.value.exit_code == 75


def _position(kept):
    state = kept.load()
    return state.epochs, state.step


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_between_checkpoints_ends_with_the_same_bytes(tmp_path, monkeypatch, name):
    """Steps after the last checkpoint are repeated; saving changes nothing."""
    unbroken = unbroken_outcome(name)
    kept = Checkpoints(tmp_path / "c", recipe="r")
    killed = random.Random(name).choice([8, 9, 11, 12, 13])
    steps = []

    def count():
        steps.append(len(steps) + 1)
        if len(steps) == killed:
            raise KeyboardInterrupt

    monkeypatch.setattr(kept, "due", lambda: len(steps) % 7 == 0)
    at_step(monkeypatch, count, *range(1, 100))
    with pytest.raises(KeyboardInterrupt):
        train(name, checkpoints=kept)
    assert _position(kept) == (1, 2)
    assert outcome(train(name, resume=kept.load())) == unbroken


def test_checkpoints_are_due_by_the_clock(tmp_path, monkeypatch):
    """A checkpoint is due after the interval, and less often if writing is slow."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path / "c", recipe="r", interval_s=30.0)
    assert not kept.due()
    now[0] += 30
    assert kept.due()
    real = torch.save

    def slow(*arguments):
        now[0] += 4.0
        real(*arguments)

    monkeypatch.setattr(module.torch, "save", slow)
    kept.save(_some_state())
    now[0] += 79
    assert not kept.due(), "writing takes at most a twentieth of the time"
    now[0] += 1
    assert kept.due()


def _some_state():
    spec, loss, settings = RUNS["softmax with adam"]
    network = build(spec, image_shape=DATA.splits["train"].image_shape, num_classes=10, mean=DATA.mean, std=DATA.std)
    run = TrainingRun(network, loss, *SPLITS, settings=settings, seed=0)
    run.run_steps(3)
    return run.state()


class Trap:
    """Object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def signed(payload):
    """Write a payload as a checkpoint file with its digest."""
    return b"\n".join([module._MAGIC, b"r", module._digest(payload).encode(), payload])


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other recipe", "pickle", "signed pickle", "list"])
def test_an_unusable_checkpoint_is_logged_and_ignored(tmp_path, caplog, damage):
    """Training restarts, the reason is logged, and no code of the file is run."""
    path, trapped = tmp_path / "c", tmp_path / "trapped"
    Checkpoints(path, recipe="r").save(_some_state())
    assert Checkpoints(path, recipe="r").load().step == 3
    content = path.read_bytes()
    middle = len(content) // 2
    trap = pickle.dumps(Trap(trapped))
    path.write_bytes(
        {
            "truncated": content[:-100],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "other recipe": content,
            "pickle": trap,
            "signed pickle": signed(trap),
            "list": signed(pickle.dumps([1, 2])),
        }[damage]
    )
    assert Checkpoints(path, recipe="other" if damage == "other recipe" else "r").load() is None
    assert "the checkpoint is ignored, training starts from the beginning" in caplog.text
    assert not trapped.exists()


def test_a_state_of_another_network_is_ignored(caplog):
    """A state that does not fit leaves the run unchanged."""
    state = _some_state()
    state.weights.popitem()
    assert outcome(train("softmax with adam", resume=state)) == outcome(train("softmax with adam"))
    assert "does not fit the network" in caplog.text


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    """The previous checkpoint stays whole, without temporary files."""
    kept = Checkpoints(tmp_path / "c", recipe="r")
    state = _some_state()
    kept.save(state)
    before = (tmp_path / "c").read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(GauntletError, match=r"c: the disk is full; free space and run again") as caught:
        kept.save(dataclasses.replace(state, step=2))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert (tmp_path / "c").read_bytes() == before


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_an_out_of_memory_error_names_the_batch_size(monkeypatch, error):
    """The cell fails when memory runs out outside of the passes, which alone can be computed in parts."""

    def starve():
        raise error

    at_step(monkeypatch, starve, 3)
    with pytest.raises(GauntletError, match=r"memory ran out with a batch_size of 64; lower `training\.batch_size`"):
        train("softmax with adam")


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    """An error in a user's network is raised unchanged."""

    def wrong():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    at_step(monkeypatch, wrong, 1)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train("softmax with adam")


def test_a_loss_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    """The run fails at the checkpoint and keeps the previous one."""
    kept = Checkpoints(tmp_path / "c", recipe="r")
    monkeypatch.setattr(kept, "due", lambda: True)
    real = TrainingRun._step
    calls = itertools.count(1)

    def step(self, images, labels):
        real(self, images, labels)
        if next(calls) == 3:
            self.tally.losses[-1] = torch.tensor(float("nan"))

    monkeypatch.setattr(TrainingRun, "_step", step)
    with pytest.raises(GauntletError, match="training loss became nan in epoch 1, step 3 of 5"):
        train("softmax with adam", checkpoints=kept)
    assert _position(kept) == (0, 2)


def test_a_resumed_run_states_where_it_begins(caplog):
    """Epochs of the state are not reported again; a state that does not fit is not resumed."""
    caplog.set_level(logging.INFO)
    seen = []
    spec, loss, settings = RUNS["softmax with adam"]
    network = build(spec, image_shape=DATA.splits["train"].image_shape, num_classes=10, mean=DATA.mean, std=DATA.std)
    run = TrainingRun(network, loss, *SPLITS, settings=settings, seed=0)
    run.run_epoch()
    run.run_steps(1)
    state, reported = run.state(), []
    how = {"on_resume": seen.append, "on_epoch": lambda epoch: reported.append(epoch.epoch)}
    train("softmax with adam", resume=state, **how)
    assert (seen, reported) == ([state], [2, 3])
    assert state.seconds == state.history[0].seconds + state.tally.seconds > state.tally.seconds > 0
    train("softmax with adam", resume=dataclasses.replace(state, history=[]), **how)
    assert (seen, reported) == ([state], [2, 3, 1, 2, 3])
