"""Keeping the last epoch, and gradient clipping, against plain loops."""

from __future__ import annotations

import functools
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from gauntlet.config.variants import GradientClipping, Training, WeightPerturbation
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
LOSS = Spec("cross_entropy")
SETTINGS = Training(epochs=12, batch_size=32, optimizer=Spec("adam", {"lr": 0.03}), keep="last")


def built(spec: Spec | None = None) -> Network:
    """Return a small network for the digits."""
    spec = spec or Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)


def trained(settings: Training = SETTINGS, spec: Spec | None = None, loss: Spec = LOSS, **how: Any) -> TrainingResult:
    """Train on the digits."""
    return fit(built(spec), loss, *SPLITS, settings=settings, seed=1, **how)


def outcome(fitted: TrainingResult) -> tuple[object, ...]:
    """Return everything that a run decides."""
    history = fitted.history.drop_columns(list(VOLATILE)).to_pylist()
    return tensor_digest(fitted.network.state_dict()), fitted.kept_epoch, history


def test_the_last_epoch_is_kept_and_trained_alike() -> None:
    """Both runs have the same history, whose best epoch is another one; the network is that of its last row."""
    last, best = trained(), trained(replace(SETTINGS, keep="best"))
    assert outcome(last)[2] == outcome(best)[2]
    assert best.kept_epoch < last.kept_epoch == 12
    rows = last.history.to_pylist()
    images, labels = SPLITS[1].images.float() / 255, SPLITS[1].labels
    for fitted, row in ((last, rows[-1]), (best, rows[best.kept_epoch - 1])):
        loss = nn.functional.cross_entropy(fitted.network(images), labels).item()
        assert loss == pytest.approx(row["validation_loss"], rel=1e-5)


def test_patience_still_counts_from_the_best_epoch() -> None:
    """The run ends `patience` epochs after its best one, and keeps its last."""
    settings = replace(SETTINGS, epochs=40, patience=3)
    last, best = trained(settings), trained(replace(settings, keep="best"))
    assert len(last.history) == len(best.history) == best.kept_epoch + 3 == last.kept_epoch < 40


PARTS: dict[str, dict[str, Any]] = {
    "regularizers": {"regularizers": [Spec("l2", {"strength": 10.0, "start_epoch": 6})]},
    "perturbed weights": {"awp": WeightPerturbation(gamma=0.5, start_epoch=6)},
    "negatives": {"negatives": Spec("overlay", {"share": 3.0, "start_epoch": 6})},
}
SIGMOID = Spec("cnn", {"widths": [4, 4], "head": {"name": "sigmoid", "hidden": 8}}), Spec("sigmoid_mse")


@pytest.mark.parametrize("part", PARTS)
def test_no_epoch_before_a_part_of_the_training_begins_is_kept(part: str) -> None:
    """Though the loss is lowest before: a model of another training, without this part."""
    fitted = trained(replace(SETTINGS, epochs=7, keep="best", **PARTS[part]), *SIGMOID)
    losses = fitted.history["validation_loss"].to_pylist()
    assert losses.index(min(losses)) + 1 < 6
    assert fitted.kept_epoch == 6 + losses[5:].index(min(losses[5:]))


@pytest.mark.parametrize("keep", ["best", "best_accuracy", "last"])
@pytest.mark.parametrize("part", PARTS)
def test_patience_counts_from_the_epochs_in_which_all_parts_are_on(part: str, keep: Any) -> None:
    """A training that does not improve before goes on until its parts begin."""
    still = Spec("sgd", {"lr": 1e-30})
    settings = replace(SETTINGS, epochs=20, keep=keep, patience=2, optimizer=still, **PARTS[part])
    fitted = trained(settings, *SIGMOID)
    assert len(fitted.history) == 8
    assert fitted.kept_epoch == (8 if keep == "last" else 6)


def uphill(epoch: int, epochs: int) -> float:
    """A schedule by which each step makes the loss larger."""
    return -1.0


def ramped(increment: float) -> Spec:
    """Return a network whose activation rises by `increment` per step."""
    activation = {"name": "relog", "increment": increment, "stop": 0.8}
    return Spec("mnist_cnn", {"activation": activation})


@pytest.mark.parametrize("epochs", [3, 6])
def test_an_epoch_in_which_a_ramp_rises_is_kept_only_without_another(epochs: int) -> None:
    """Though the loss is lower there: its model has less of the activation than the configuration says."""
    climb = replace(SETTINGS, optimizer=Spec("sgd", {"lr": 1e-3}), schedule=Spec(f"{__name__}:uphill"))
    fitted = trained(replace(climb, epochs=epochs, keep="best"), ramped(0.021))
    losses = fitted.history["validation_loss"].to_pylist()
    assert losses == sorted(set(losses)), "each epoch is better than those after it"
    assert fitted.kept_epoch == (1 if epochs == 3 else 4)


@pytest.mark.parametrize("keep", ["best", "best_accuracy", "last"])
@pytest.mark.parametrize("increment", [0.021, 0.0])
def test_patience_counts_from_the_end_of_the_ramps(increment: float, keep: Any) -> None:
    """Of ramps that rise; a training that does not improve meanwhile goes on until they end."""
    climb = replace(SETTINGS, optimizer=Spec("sgd", {"lr": 1e-3}), schedule=Spec(f"{__name__}:uphill"))
    fitted = trained(replace(climb, epochs=20, keep=keep, patience=2), ramped(increment))
    assert len(fitted.history) == (6 if increment else 3)


RESUMED: dict[str, tuple[Spec | None, Spec]] = {
    "cnn": (None, LOSS),
    "lipschitz": (Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}), Spec("hkr")),
    "batch statistics": (
        Spec(
            "lipschitz_cnn",
            {"widths": [4, 4], "hidden": 8, "batch_lip_norm": True, "residual_blocks": 1, "k_coef_lip": 2.0},
        ),
        Spec("hkr"),
    ),
}


@functools.cache
def unbroken(name: str) -> tuple[object, ...]:
    """Return the outcome of three epochs without a stop."""
    return outcome(trained(replace(SETTINGS, epochs=3), *RESUMED[name]))


@pytest.mark.parametrize("name", RESUMED)
@pytest.mark.parametrize("steps", [1, 10, 29, 36])
def test_a_resumed_run_keeps_the_same_weights(name: str, steps: int) -> None:
    """It ends with the same bytes after a stop within an epoch, between two, and after the last one."""
    spec, loss = RESUMED[name]
    settings = replace(SETTINGS, epochs=3)
    run = TrainingRun(built(spec), loss, *SPLITS, settings=settings, seed=1)
    per_epoch = run.batches.steps
    for _ in range(min(steps // per_epoch, 3)):
        run.run_epoch()
    if not run.finished:
        run.run_steps(steps % per_epoch)
    assert outcome(trained(settings, spec, loss, resume=run.state())) == unbroken(name)


def test_a_collapsed_last_epoch_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch before it is, with its weights."""
    real = TrainingRun._step

    def step(self: TrainingRun, images: Tensor, labels: Tensor) -> None:
        real(self, images, labels)
        if self.epochs == 3:
            with torch.no_grad():
                for parameter in self.network.parameters():
                    parameter.zero_()

    settings = replace(SETTINGS, epochs=3, recovery={})
    plain = trained(settings)
    monkeypatch.setattr(TrainingRun, "_step", step)
    collapsed = trained(replace(settings, epochs=4))
    assert collapsed.history["collapsed"].to_pylist() == [False, False, False, True]
    assert outcome(collapsed)[:2] == outcome(plain)[:2]
    assert collapsed.kept_epoch == 3


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_clipped_steps_equal_those_of_a_plain_loop(norm: Literal["linf", "l2"]) -> None:
    """The gradient is scaled to the limit as a whole; weights and losses after an epoch equal a loop written here."""
    limit = 0.02
    settings = Training(
        epochs=1,
        batch_size=64,
        optimizer=Spec("sgd", {"lr": 0.5, "momentum": 0.0}),
        gradient_clipping=GradientClipping(limit=limit, norm=norm),
    )
    run = TrainingRun(built(), LOSS, *SPLITS, settings=settings, seed=1)
    run.run_steps()
    network, sizes, losses = built(), [], []
    for images, labels in Batches(SPLITS[0], batch_size=64, seed=1, device="cpu", augmentations=[]).epoch(0, start=0):
        loss = nn.functional.cross_entropy(network(images), labels)
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        size = float(flat.abs().max() if norm == "linf" else flat.square().sum().sqrt())
        sizes.append(size)
        losses.append(loss.item())
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= 0.5 * min(1.0, limit / size) * gradient
    assert max(sizes) > limit
    assert [value.item() for value in run.tally.losses] == pytest.approx(losses, rel=1e-4)
    for found, expected in zip(run.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_a_gradient_within_the_limit_is_not_changed() -> None:
    """With a limit that is never reached, the run has the same bytes as one without clipping."""
    plain, clipped = (
        outcome(trained(replace(SETTINGS, epochs=2, gradient_clipping=clipping)))
        for clipping in (None, GradientClipping(limit=1e9))
    )
    assert plain == clipped
