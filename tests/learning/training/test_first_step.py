"""First training step of configured variants against networks and losses written out in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from deel import torchlip
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.config.variants import Training, Variant
from gauntlet.core.randomness import generator
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.negatives import build_negatives
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec

DATA = prepare(Spec("sklearn_digits"))
JOURNAL = {"name": "mnist_cnn", "widths": [3, 4], "activation": {"name": "relog", "beta": 10, "base": 10, "start": 1}}


def first_step(variant: dict[str, Any], training: dict[str, Any]) -> tuple[Network, float, Tensor, Tensor]:
    """Run the first step of a variant; return its initial network, the step's total loss, images and labels."""
    parsed, settings = Variant.model_validate(variant), Training.model_validate({"batch_size": 50, **training})
    shape = {"image_shape": (1, 8, 8), "num_classes": 10, "mean": DATA.mean, "std": DATA.std}
    network = build(parsed.model, **shape, normalize=parsed.normalization)
    train, validation = DATA.splits["train"], DATA.splits["validation"]
    run = TrainingRun(network, parsed.loss, train, validation, settings=settings, seed=3)
    run.run_steps(1)
    tally = run.tally
    total = tally.losses[0].item() + (tally.penalties[0].item() if tally.penalties else 0.0)
    images, labels = next(iter(Batches(train, batch_size=50, seed=3, device="cpu", augmentations=[]).epoch(0, start=0)))
    return build(parsed.model, **shape, normalize=parsed.normalization).train(), total, images, labels


def relog(x: Tensor) -> Tensor:
    """Return the author's ReLog(10)."""
    return torch.log(x.relu() + 1 / 10) / math.log(10) + 1


def unit(layer: Any, x: Tensor, kind: str) -> Tensor:
    """Compute a spherical or elliptical unit at the strength 0.5."""
    linear = layer.linear
    if isinstance(linear, nn.Conv2d):
        apply, fan_in = lambda y, w, b=None: functional.conv2d(y, w, b, padding=2), linear.weight[0].numel()
    else:
        apply, fan_in = functional.linear, linear.in_features
    shape = linear.weight
    v = torch.full_like(shape, 0.5 / fan_in) if kind == "spherical" else layer.curvature.abs()
    gamma = 0.5 if kind == "spherical" else 1.0
    return apply(x, linear.weight, linear.bias) - 0.5 * apply(x * x, v) + 0.5 * gamma


@pytest.mark.parametrize("kind", ["spherical", "elliptical"])
@pytest.mark.parametrize("normalize", ["none", "data"])
def test_a_variant_of_the_journal(kind: str, normalize: str) -> None:
    """Pixels, units, ReLog(10), weighted squares of sigmoids, negatives and max-fit give the same loss."""
    model = {**JOURNAL, "unit": {"name": kind, "start": 0.5}, "head": "sigmoid"}
    variant = {"model": model, "loss": {"name": "sigmoid_mse", "positive_weight": 19}, "normalize": normalize}
    max_fit = {"name": "max_fit", "l1": 0.1, "l2": 0.2, "bias": 0.3}
    network, found, images, labels = first_step(variant, {"regularizers": [max_fit], "negatives": "overlay"})

    def outputs(x: Tensor) -> Tensor:
        x = x if normalize == "none" else (x - DATA.mean[0]) / DATA.std[0]
        first, second, last = (module for module in network.modules() if hasattr(module, "linear"))
        x = functional.max_pool2d(relog(unit(first, x, kind)), 2)
        x = functional.max_pool2d(relog(unit(second, x, kind)), 2)
        return unit(last, x.flatten(1), kind).sigmoid()

    negatives = build_negatives(Training(negatives={"name": "overlay"}).negatives).make(  # type: ignore[arg-type]
        images, labels, generator("train", 3, "negatives", 0, 0)
    )
    targets = functional.one_hot(labels, 10)
    expected = ((1 + 18 * targets) * (outputs(images) - targets) ** 2).mean() + (outputs(negatives) ** 2).mean()
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            expected = expected + 0.3 * parameter.mean()
        else:
            expected = expected + 0.1 * parameter.abs().mean() + 0.2 * parameter.square().mean()
    assert found == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        ("lse_hkr", torchlip.LseHKRMulticlassLoss(alpha=0.9, min_margin=1.0, temperature=10.0)),
        ("soft_hkr", torchlip.SoftHKRMulticlassLoss(alpha=0.995, min_margin=0.1, temperature=50.0)),
    ],
)
def test_an_example_of_the_package(loss: str, theirs: nn.Module) -> None:
    """With the package's layers, pooling and loss in a plain sequence, the first step has the same loss."""
    model = {"name": "lipschitz_cnn", "widths": [4, 6], "hidden": 8, "k_coef_lip": 16.0, "batch_lip_norm": True}
    model |= {"output": "disjoint", "output_bias": True}
    network, found, images, labels = first_step({"model": model, "loss": loss}, {})
    plain = nn.Sequential(
        torchlip.SpectralConv2d(1, 4, 3, padding="same", k_coef_lip=2.0),
        torchlip.BatchLipNorm(4),
        torchlip.GroupSort2(),
        torchlip.ScaledL2NormPool2d(2),
        torchlip.SpectralConv2d(4, 6, 3, padding="same", k_coef_lip=2.0),
        torchlip.BatchLipNorm(6),
        torchlip.GroupSort2(),
        torchlip.ScaledL2NormPool2d(2),
        nn.Flatten(),
        torchlip.SpectralLinear(24, 8, k_coef_lip=2.0),
        torchlip.GroupSort2(),
        torchlip.FrobeniusLinear(8, 10, bias=True, disjoint_neurons=True, k_coef_lip=2.0),
    )
    for target, source in zip(
        (layer for layer in plain if list(layer.parameters())),
        (layer for layer in [*network.body, network.head.layer] if list(layer.parameters())),  # type: ignore[misc]
        strict=True,
    ):
        target.load_state_dict(source.state_dict())
    expected = theirs(plain.train()(images), functional.one_hot(labels, 10))
    assert found == pytest.approx(expected.item(), rel=1e-4)
