"""Negatives in a training step: their share of loss, accuracy and adversary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gauntlet.config.variants import Training
from gauntlet.core.randomness import generator
from gauntlet.learning.data.negatives import build_negatives
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.losses import Loss, build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.objective import TrainingObjective
from gauntlet.registry import NEGATIVES, Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
SQUARES = Spec("tests.support.interruptible:squared_error")
STILL = Training(epochs=2, batch_size=64, optimizer=Spec("sgd", {"lr": 1e-30}))


def built() -> Network:
    """Return a small network for the digits."""
    spec = Spec("cnn", {"widths": [4], "head": {"name": "softmax", "hidden": 8}})
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)


def batch() -> tuple[Tensor, Tensor]:
    """Return some of the digits."""
    return SPLITS[0].images[:20].float() / 255, SPLITS[0].labels[:20]


@pytest.mark.parametrize("name", NEGATIVES.names())
def test_a_steps_loss_is_the_sum_of_the_means_over_images_and_negatives(name: str) -> None:
    """Both means and the gradient of their sum, in a plain loop with the same draws; outputs are of the images only."""
    options = {"blocks": [3]} if name == "scrambling" else {}
    spec, network, (images, labels) = Spec(name, {"share": 0.5, **options}), built(), batch()
    loss = build_loss(SQUARES)
    terms = TrainingObjective(network, loss, None, replace(STILL, negatives=spec), seed=7, steps=5).step_loss(
        images, labels, epoch=3, step=2
    )
    negatives = build_negatives(spec).make(images, labels, generator("train", 7, "negatives", 3, 2))
    assert len(negatives) == 10
    image_loss = loss(network, network.outputs(images), labels).mean()
    total = image_loss + network.outputs(negatives).sigmoid().square().mean()
    assert terms.loss.item() == pytest.approx(total.item())
    parameters = list(network.parameters())
    found, expected = (torch.autograd.grad(value, parameters) for value in (terms.total, total))
    for gradient, expected_gradient in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient)
    assert terms.outputs.shape == (20, 10)
    torch.testing.assert_close(terms.outputs, network.outputs(images))


def test_accuracy_counts_the_images_alone() -> None:
    """With constant weights, negatives change the loss and not the accuracy."""
    plain, with_them = (
        fit(built(), SQUARES, *SPLITS, settings=replace(STILL, negatives=negatives), seed=0).history.to_pylist()
        for negatives in (None, Spec("overlay"))
    )
    assert [row["train_accuracy"] for row in plain] == [row["train_accuracy"] for row in with_them]
    assert all(a["train_loss"] != b["train_loss"] for a, b in zip(plain, with_them, strict=True))
    assert [row["validation_loss"] for row in plain] == [row["validation_loss"] for row in with_them]


def test_negatives_start_at_their_epoch() -> None:
    """Earlier epochs have the loss without negatives."""
    plain, late = (
        fit(built(), SQUARES, *SPLITS, settings=replace(STILL, negatives=negatives), seed=0).history.to_pylist()
        for negatives in (None, Spec("overlay", {"start_epoch": 2}))
    )
    assert [a["train_loss"] == b["train_loss"] for a, b in zip(plain, late, strict=True)] == [True, False]


class RecordingAdversary(Adversary):
    """Adversary that returns white images and records its arguments."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.objective_inputs: list[tuple[Tensor, Tensor]] = []

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return white images."""
        self.seen.append((len(images), int(labels.min())))
        return torch.ones_like(images)

    def objective(
        self, network: Network, loss: Loss, images: Tensor, perturbed: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Record the arguments of the objective."""
        self.objective_inputs.append((perturbed, labels))
        return super().objective(network, loss, images, perturbed, labels)


def test_the_adversary_leaves_the_negatives_alone() -> None:
    """The adversary perturbs the images only, and negatives are made of the clean images."""
    adversary, network, loss, (images, labels) = RecordingAdversary(), built(), build_loss(SQUARES), batch()
    spec = Spec("overlay", {"share": 0.2})
    settings = replace(STILL, negatives=spec)
    terms = TrainingObjective(network, loss, adversary, settings, seed=0, steps=5).step_loss(
        images, labels, epoch=0, step=0
    )
    assert adversary.seen == [(20, int(labels.min()))]
    [(perturbed, targets)] = adversary.objective_inputs
    assert perturbed.min() == 1
    assert targets.tolist() == labels.tolist()
    negatives = build_negatives(spec).make(images, labels, generator("train", 0, "negatives", 0, 0))
    white = loss(network, network.outputs(torch.ones_like(images)), labels).mean()
    expected = white + network.outputs(negatives).sigmoid().square().mean()
    assert terms.loss.item() == pytest.approx(expected.item())
    assert len(terms.outputs) == 20


def test_images_and_negatives_have_batch_statistics_of_their_own() -> None:
    """With batch normalization, negatives change neither the outputs of the images nor their gradients."""
    spec = Spec("vgg", {"depth": 3, "capacity": 0.05, "batch_norm": True, "head": {"name": "sigmoid", "hidden": 0}})
    network = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)
    images, labels = batch()
    plain, with_negatives = (
        TrainingObjective(
            network, build_loss(SQUARES), None, replace(STILL, negatives=negatives), seed=0, steps=5
        ).step_loss(images, labels, epoch=0, step=0)
        for negatives in (None, Spec("overlay"))
    )
    torch.testing.assert_close(with_negatives.outputs, plain.outputs)
