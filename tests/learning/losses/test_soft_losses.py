"""The HKR losses with soft maxima against deel-torchlip, and losses with a state in training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deel import torchlip
from torch import Tensor
from torch.nn import functional

from gauntlet.config.variants import Training
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.losses import build_loss, loss_state, updating
from gauntlet.learning.losses.lse_hkr import lse_hkr
from gauntlet.learning.losses.soft_hkr import SoftHkr
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
SETTINGS = Training(epochs=4, batch_size=64, optimizer=Spec("adam", {"lr": 0.01}))
LOSS = Spec("soft_hkr", {"alpha": 0.9, "min_margin": 0.05, "temperature": 5.0})


def built() -> Network:
    """Return a small 1-Lipschitz network for the digits."""
    spec = Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8})
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)


def batch(number: int, *, classes: int = 10, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits in float64 that require a gradient, labels, and labels as one-hot vectors."""
    draw = torch.Generator().manual_seed(number)
    outputs = scale * torch.randn(40, classes, generator=draw, dtype=torch.float64)
    labels = torch.randint(0, classes, (40,), generator=draw)
    return outputs.requires_grad_(), labels, functional.one_hot(labels, classes)


def assert_same(found: Tensor, expected: Tensor, outputs: Tensor) -> None:
    """Compare values per sample and the gradients of their means."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    gradients = [torch.autograd.grad(value.mean(), outputs)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": 0.5, "min_margin": 0.3, "temperature": 1.0, "penalty": 2.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("classes", [3, 10])
def test_lse_hkr_equals_the_package(options: dict[str, float], classes: int) -> None:
    """Values per sample and gradients, with the options of the package's example and others."""
    outputs, labels, one_hot = batch(0, classes=classes)
    defaults = {"alpha": 0.9, "min_margin": 1.0, "temperature": 10.0, "penalty": 1.0}
    theirs = torchlip.LseHKRMulticlassLoss(**{**defaults, **options}, reduction="none")
    assert_same(lse_hkr(built(), outputs, labels, **options), theirs(outputs, one_hot), outputs)


def test_lse_hkr_of_two_classes_is_that_of_the_other_logit() -> None:
    """The package divides by zero there."""
    outputs, labels, _ = batch(0, classes=2)
    found = lse_hkr(built(), outputs, labels, alpha=0.7, min_margin=0.6, temperature=2.0)
    own, other = 2 * outputs.gather(1, labels[:, None])[:, 0], 2 * outputs.gather(1, 1 - labels[:, None])[:, 0]
    hinge = (0.3 - own).clamp(min=0) + (0.3 + other).clamp(min=0)
    torch.testing.assert_close(found, 0.7 * hinge - 0.3 * (own - other))


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.995, "min_margin": 0.1, "temperature": 50.0},
        {"alpha": 0.9, "min_margin": 1.0, "temperature": 1.0, "alpha_mean": 0.5},
        {"alpha": 0.0, "min_margin": 0.3, "temperature": 4.0},
        {"alpha": 1.0, "min_margin": 0.3, "temperature": 4.0},
    ],
    ids=str,
)
def test_soft_hkr_equals_the_package_over_several_steps(options: dict[str, float]) -> None:
    """Values and gradients agree while the running mean changes, for small and large logits."""
    ours, theirs = SoftHkr(**options), torchlip.SoftHKRMulticlassLoss(**options, reduction="none")
    for number, scale in enumerate((0.01, 1.0, 1.0, 30.0, 1e4)):
        outputs, labels, one_hot = batch(number, scale=scale)
        # The package rounds alpha to float32.
        expected = theirs(outputs, one_hot).double()
        found = ours(built(), outputs, labels)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6 * scale)
        gradients = [torch.autograd.grad(value.mean(), outputs)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
        assert ours.mean.item() == pytest.approx(theirs.current_mean.item(), rel=1e-5)


def test_soft_hkr_has_its_gradient() -> None:
    """The gradient in evaluation, where the running mean is constant, equals finite differences."""
    outputs, labels, _ = batch(1)
    loss = SoftHkr(alpha=0.9).eval()
    small = outputs.detach()[:5].clone().requires_grad_()
    network = built()
    assert torch.autograd.gradcheck(lambda given: loss(network, given, labels[:5]), small)


def test_a_state_changes_in_the_step_alone() -> None:
    """A built loss leaves its state as it is, except inside `updating`; a function has none."""
    loss, (outputs, labels, _) = build_loss(LOSS), batch(2)
    before = {name: tensor.clone() for name, tensor in loss_state(loss).items()}
    loss(built(), outputs, labels)
    assert loss_state(loss) == before
    with updating(loss):
        loss(built(), outputs, labels)
    assert loss_state(loss) != before
    assert loss_state(build_loss(Spec("hkr"))) == {}


def outcome(run: TrainingRun) -> tuple[object, ...]:
    """Run to the end and return everything that a run decides."""
    while not run.finished:
        run.run_epoch()
    fitted: TrainingResult = run.result()
    history = fitted.history.drop_columns(list(VOLATILE)).to_pylist()
    return tensor_digest(fitted.network.state_dict()), history, loss_state(run.loss)["mean"].item()


def new_run(**changes: Any) -> TrainingRun:
    """Return a run with the loss."""
    return TrainingRun(built(), LOSS, *SPLITS, settings=replace(SETTINGS, **changes), seed=0)


@pytest.mark.parametrize("steps", [2, 9])
def test_a_resumed_run_continues_with_the_state_of_its_loss(steps: int, tmp_path: Any) -> None:
    """From a checkpoint file within an epoch, the run ends with the same bytes."""
    stopped, checkpoints = new_run(), Checkpoints(tmp_path / "checkpoint", recipe="x")
    stopped.run_epoch()
    stopped.run_steps(steps % stopped.batches.steps)
    checkpoints.save(stopped.live_state())
    state = checkpoints.load()
    assert state is not None
    assert state.loss["mean"] != SoftHkr(**LOSS.options).mean
    resumed = new_run()
    assert resumed.fits(state)
    resumed.restore(state)
    assert outcome(resumed) == outcome(new_run())


def test_the_adversary_does_not_change_the_state_of_the_loss() -> None:
    """After one step the running mean is that of the step's own outputs, whatever the ascent computed."""
    run = new_run(adversary=Spec("pgd", {"epsilon": 0.1, "steps": 3}))
    run.run_steps(1)
    step_mean = run.tally.outputs[0].abs().mean().item()
    assert loss_state(run.loss)["mean"].item() == pytest.approx(0.99 * 0.05 + 0.01 * step_mean, rel=1e-5)


def test_a_collapse_restores_the_state_of_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a collapsed epoch the running mean is that after the last good epoch."""
    run = new_run(recovery={})
    run.run_epoch()
    good = loss_state(run.loss)["mean"].item()
    assert run.recovery is not None
    monkeypatch.setattr(run.recovery, "collapse_reason", lambda accuracy, trouble: "so judged")
    run.run_epoch()
    assert run.history[-1].collapsed
    assert loss_state(run.loss)["mean"].item() == good
