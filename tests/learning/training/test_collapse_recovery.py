"""Recovery from collapses: detection, return to the last good epoch, frozen ramps, and failure."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from typing import Any

import pytest
import torch

from gauntlet.config.variants import Recovery, Training, WeightPerturbation
from gauntlet.core.errors import GauntletError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
RECOVERY = Recovery(samples=200, frozen_epochs=2)
SETTINGS = Training(epochs=8, batch_size=32, optimizer=Spec("adam", {"lr": 0.01}), recovery=RECOVERY)
STEPS = 10


def ramped(seed: int = 0) -> Network:
    """Return a network with a ramp that counts its unfrozen steps in a buffer."""
    spec = Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
    network = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=seed)
    network.register_buffer("ramp", torch.zeros(()))

    def after_step() -> None:
        if not network.ramps_frozen:
            network.ramp += 1

    network.after_step = after_step  # type: ignore[method-assign]
    return network


def spoil(monkeypatch: pytest.MonkeyPatch, *places: tuple[int, int], value: float = 0.0) -> None:
    """Set all weights to a value after the given steps (epoch and step from 1)."""
    real = TrainingRun._step

    def step(self: TrainingRun, images: torch.Tensor, labels: torch.Tensor) -> None:
        real(self, images, labels)
        if (self.epochs + 1, self.step + 1) in places:
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.fill_(value)

    monkeypatch.setattr(TrainingRun, "_step", step)


def trained(settings: Training = SETTINGS, **how: Any) -> TrainingResult:
    """Train the network with ramps."""
    return fit(ramped(), Spec("cross_entropy"), *SPLITS, settings=settings, seed=0, **how)


def outcome(fitted: TrainingResult) -> tuple[object, ...]:
    """Return everything that a run decides."""
    history = fitted.history.drop_columns(list(VOLATILE)).to_pylist()
    return tensor_digest(fitted.network.state_dict()), fitted.kept_epoch, history


@pytest.mark.parametrize("value", [0.0, float("nan")])
@pytest.mark.parametrize("step", [1, STEPS])
def test_a_collapse_returns_to_the_last_good_epoch_and_is_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: int, value: float
) -> None:
    """After a collapse in epoch 4 the weights of epoch 3 return, and ramps freeze for two epochs."""
    spoil(monkeypatch, (4, step), value=value)
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=SETTINGS, seed=0)
    states = []
    for _ in range(8):
        run.run_epoch()
        states.append(run.state())
    rows = [vars(epoch) for epoch in run.history]
    assert [row["epoch"] for row in rows] == list(range(1, 9)), "collapsed epochs are epochs"
    assert [row["collapsed"] for row in rows] == [number == 4 for number in range(1, 9)]
    assert [row["ramps_frozen"] for row in rows] == [number in (5, 6) for number in range(1, 9)]
    assert [state.weights["ramp"].item() / STEPS for state in states] == [1, 2, 3, 3, 3, 3, 4, 5]
    assert tensor_digest(states[3].weights) == tensor_digest(states[2].weights)
    moments = [state.optimizer["state"][0] for state in states]
    assert torch.equal(moments[3]["exp_avg"], moments[2]["exp_avg"])
    assert moments[7]["step"] == 7 * STEPS
    accuracies = [row["sampled_accuracy"] for row in rows]
    assert accuracies[3] < 0.5 * accuracies[2]
    assert accuracies[4] > 0.8 * accuracies[2]
    assert (rows[3]["validation_loss"] is None) == (value != value)
    assert run.best is not None
    assert run.best.epoch != 4
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert re.search(r"collapsed in epoch 4: .*; restored the weights of epoch 3, ramps are frozen for 2", lines[0])


def test_two_collapses_in_a_row_return_to_the_same_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept state is not changed by the epoch that continues from it."""
    spoil(monkeypatch, (4, 2), (5, 9))
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=SETTINGS, seed=0)
    states = []
    for _ in range(6):
        run.run_epoch()
        states.append(run.state())
    assert tensor_digest(states[4].weights) == tensor_digest(states[2].weights)
    for entry in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(states[4].optimizer["state"][0][entry], states[2].optimizer["state"][0][entry])
    assert [epoch.ramps_frozen for epoch in run.history] == [False, False, False, False, True, True]
    assert not run.history[5].collapsed


def test_a_collapsed_epoch_is_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds even if its validation loss is the lowest."""
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=SETTINGS, seed=0)
    run.run_epoch()
    assert run.recovery is not None
    monkeypatch.setattr(run.recovery, "collapse_reason", lambda accuracy, trouble: "so judged")
    run.run_epoch()
    first, second = (epoch.validation_loss for epoch in run.history)
    assert first is not None
    assert second is not None
    assert second < first
    assert run.best is not None
    assert run.best.epoch == 1


def test_epochs_after_a_collapse_have_new_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of the collapsed epoch do not repeat."""
    seen: list[tuple[int, torch.Tensor]] = []
    real = TrainingRun._step

    def step(self: TrainingRun, images: torch.Tensor, labels: torch.Tensor) -> None:
        real(self, images, labels)
        if self.step == 0:
            seen.append((self.epochs, labels.clone()))

    monkeypatch.setattr(TrainingRun, "_step", step)
    spoil(monkeypatch, (4, 2))
    trained()
    assert [epoch for epoch, _ in seen] == list(range(8))
    assert all(not torch.equal(a, b) for i, (_, a) in enumerate(seen) for _, b in seen[:i])


def test_recovery_changes_nothing_without_a_collapse() -> None:
    """Weights and history are those without recovery, except for the measured accuracy."""
    with_it, without = outcome(trained()), outcome(trained(replace(SETTINGS, recovery=None)))
    assert with_it[:2] == without[:2]
    assert all(row["sampled_accuracy"] is not None and not row["collapsed"] for row in with_it[2])
    assert [{**row, "sampled_accuracy": None} for row in with_it[2]] == without[2]


def test_the_accuracy_is_measured_on_fixed_training_images() -> None:
    """The sample is unaugmented and evaluated after the epoch."""
    noisy = replace(SETTINGS, augmentation=[Spec("gaussian_noise", {"std": 0.5})])
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=noisy, seed=0)
    assert run.recovery is not None
    sample: Split = run.recovery.sample
    assert len(sample) == 200
    train = {image.numpy().tobytes() for image in SPLITS[0].images}
    assert all(image.numpy().tobytes() in train for image in sample.images)
    run.run_epoch()
    predicted = run.network.eval()(sample.images.float() / 255).argmax(dim=1)
    assert run.history[-1].sampled_accuracy == (predicted == sample.labels).double().mean().item()


def test_a_collapse_in_the_first_epoch_returns_to_the_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a good epoch the run returns to its beginning."""
    spoil(monkeypatch, (1, 3), value=float("nan"))
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=SETTINGS, seed=0)
    before = tensor_digest(run.network.state_dict())
    run.run_epoch()
    assert run.history[0].collapsed
    assert tensor_digest(run.network.state_dict()) == before
    run.run_epoch()
    assert not run.history[1].collapsed


PLACES = [(4, 2), (6, STEPS)]


@functools.cache
def unbroken(value: float) -> tuple[object, ...]:
    """Return the outcome of a run with two collapses and without a stop."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        spoil(monkeypatch, *PLACES, value=value)
        return outcome(trained())


@pytest.mark.parametrize("value", [0.0, float("nan")])
@pytest.mark.parametrize("steps", [31, 35, 39, 40, 45, 58, 60, 61])
def test_a_run_interrupted_near_a_collapse_ends_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, steps: int, value: float
) -> None:
    """A run with two collapses is stopped between, in and after them, and resumed from disk."""
    expected = unbroken(value)
    assert [row["collapsed"] for row in expected[2]].count(True) == 2
    spoil(monkeypatch, *PLACES, value=value)
    kept, done = Checkpoints(tmp_path / "c", recipe="r"), [0]
    monkeypatch.setattr(kept, "due", lambda: done[0] == steps)
    real = TrainingRun._step

    def step(self: TrainingRun, images: torch.Tensor, labels: torch.Tensor) -> None:
        if done[0] == steps:
            raise KeyboardInterrupt
        real(self, images, labels)
        done[0] += 1

    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        patched.setattr(TrainingRun, "_step", step)
        trained(checkpoints=kept)
    state = kept.load()
    assert state is not None
    assert STEPS * state.epochs + state.step == steps
    resumed = fit(ramped(5), Spec("cross_entropy"), *SPLITS, settings=SETTINGS, seed=0, resume=state)
    assert outcome(resumed) == expected


def test_a_state_without_recovery_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """A run with recovery does not resume a state without one."""
    run = TrainingRun(ramped(), Spec("cross_entropy"), *SPLITS, settings=replace(SETTINGS, recovery=None), seed=0)
    run.run_steps(3)
    assert outcome(trained(resume=run.state())) == outcome(trained())
    assert "does not fit" in caplog.text


def aborted(settings: Training, message: str) -> None:
    """Train to the error and return it."""
    with pytest.raises(GauntletError, match=message) as caught:
        trained(settings)
    assert "\n" not in str(caught.value)


def test_a_collapse_after_the_regularizers_start_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the last regularizer has started, a collapse is an error."""
    spoil(monkeypatch, (4, 2))
    late = [Spec("l2", {"start_epoch": 1}), Spec("max_fit", {"start_epoch": 5})]
    assert trained(replace(SETTINGS, regularizers=late)).history["collapsed"].to_pylist().count(True) == 1
    on = [Spec("l2", {"start_epoch": 1}), Spec("max_fit", {"start_epoch": 4})]
    said = r"collapsed in epoch 4: accuracy on 200 .* with the regularizers on since epoch 4; weaken .*start_epoch"
    aborted(replace(SETTINGS, regularizers=on), said)


def test_more_than_max_collapses_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the configuration key."""
    spoil(monkeypatch, (2, 1), (4, 1), (6, 1))
    three = replace(SETTINGS, recovery=replace(RECOVERY, max_collapses=3))
    assert trained(three).history["collapsed"].to_pylist().count(True) == 3
    said = r"collapsed in epoch 6: .*, after 2 collapses before; lower .*`training\.recovery\.max_collapses`"
    aborted(replace(SETTINGS, recovery=replace(RECOVERY, max_collapses=2)), said)


def test_a_run_of_collapsed_epochs_only_fails() -> None:
    """There is no best epoch to return."""
    absurd = replace(SETTINGS, epochs=2, optimizer=Spec("sgd", {"lr": 1e30}))
    aborted(absurd, r"training collapsed in every epoch; lower `training\.optimizer\.lr`")
    late = replace(absurd, awp=WeightPerturbation(start_epoch=2))
    aborted(late, r"collapsed in every epoch from epoch 2 on, in which all parts of training are on; lower")


@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_threshold_is_a_share_of_the_last_good_accuracy(threshold: float) -> None:
    """An accuracy equal to the threshold is no collapse."""
    run = TrainingRun(
        ramped(),
        Spec("cross_entropy"),
        *SPLITS,
        settings=replace(SETTINGS, recovery=Recovery(threshold=threshold)),
        seed=0,
    )
    assert run.recovery is not None
    run.recovery.record_good_epoch(1, 0.8)
    assert run.recovery.collapse_reason(0.8 * threshold, None) is None
    assert run.recovery.collapse_reason(0.8 * threshold - 1e-9, None) is not None
