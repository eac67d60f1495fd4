"""Training losses against their definitions and against deel-torchlip."""

from __future__ import annotations

import math

import pytest
import torch
from deel import torchlip
from torch import Tensor
from torch.nn import functional

from gauntlet.losses import build_loss
from gauntlet.losses.cross_entropy import cross_entropy
from gauntlet.losses.hinge import hinge
from gauntlet.losses.hkr import hkr
from gauntlet.losses.kantorovich import kantorovich_rubinstein
from gauntlet.models.build import build
from gauntlet.models.network import Network
from gauntlet.registry import HEADS, LOSSES, MODELS, Spec


def network(head: str = "softmax") -> Network:
    """A small network with the given head."""
    spec = Spec("cnn", {"widths": [4], "head": {"name": head, "hidden": 8}})
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.0,), std=(1.0,))


def batch(count: int = 60, num_classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, num_classes, generator=draw), torch.randint(0, num_classes, (count,), generator=draw)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
def test_hkr_is_the_definition_of_the_documents(alpha: float) -> None:
    """-KR + alpha H, worked out class by class in plain loops."""
    outputs, labels = batch()
    kr, h = 0.0, 0.0
    for k in range(10):
        own = labels == k
        kr += (outputs[own, k].mean() - outputs[~own, k].mean()).item() / 10
        for row in range(len(outputs)):
            sign, weight = (1, 9) if own[row] else (-1, 1)
            h += weight * max(0.0, 0.25 - sign * outputs[row, k].item()) / 10 / len(outputs)
    assert hkr(network(), outputs, labels, alpha=alpha, margin=0.25).item() == pytest.approx(-kr + alpha * h, rel=1e-5)


@pytest.mark.parametrize(("alpha", "margin"), [(100.0, 0.25), (10.0, 1.0)])
def test_hkr_corresponds_to_torchlip(alpha: float, margin: float) -> None:
    """The library's loss with alpha / (alpha + 1) and twice the margin, times alpha + 1; gradients too."""
    outputs, labels = batch()
    theirs = torchlip.HKRMulticlassLoss(alpha=alpha / (alpha + 1), min_margin=2 * margin)
    mine, other = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    value = hkr(network(), mine, labels, alpha=alpha, margin=margin)
    expected = (alpha + 1) * theirs(other, functional.one_hot(labels, 10))
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    value.backward()
    expected.backward()
    assert mine.grad is not None
    assert other.grad is not None
    assert torch.allclose(mine.grad, other.grad, atol=1e-5)


def test_kantorovich_rubinstein_counts_an_absent_class_as_nothing() -> None:
    """A batch without a class, or with one class only, gives a finite value."""
    outputs, labels = batch(5)
    assert kantorovich_rubinstein(outputs, labels).isfinite()
    assert kantorovich_rubinstein(outputs, torch.zeros(5, dtype=torch.int64)).isfinite()
    separated = functional.one_hot(labels, 10).float()
    present = len(labels.unique())
    assert kantorovich_rubinstein(separated, labels).item() == pytest.approx(present / 10)


def test_hinge_is_the_mean_over_bits_of_what_is_missing() -> None:
    """0 on the right codeword, 1 on undecided bits, 2 per wrong bit."""
    model = network("ecc")
    code = model.head.code
    assert isinstance(code, Tensor)
    labels = torch.tensor([3, 3, 3])
    one_wrong = code[3].clone()
    one_wrong[5] *= -1
    outputs = torch.stack((code[3], torch.zeros(16), one_wrong))
    assert hinge(model, outputs, labels).tolist() == pytest.approx([0.0, 1.0, 2 / 16])


def test_cross_entropy_is_per_sample() -> None:
    """One value per sample, the negative log-likelihood."""
    outputs, labels = batch()
    expected = -torch.log_softmax(outputs, dim=1)[torch.arange(60), labels]
    assert torch.allclose(cross_entropy(network(), outputs, labels), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_label_smoothing_spreads_a_share_of_the_target(share: float) -> None:
    """By hand: logits log 7, log 2, log 1 are probabilities 0.7, 0.2, 0.1; a share s of the target is spread on all."""
    outputs = torch.tensor([[7.0, 2.0, 1.0]], dtype=torch.float64).log()
    spread = -sum(math.log(p) for p in (0.7, 0.2, 0.1)) / 3
    expected = (1 - share) * -math.log(0.7) + share * spread
    found = cross_entropy(network(), outputs, torch.tensor([0]), label_smoothing=share)
    assert found.tolist() == pytest.approx([expected])
    leaf = outputs.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(network(), x, torch.tensor([0]), label_smoothing=share), (leaf,)
    )


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss_trains_every_output_it_is_for(name: str) -> None:
    """A gradient step along the loss lowers it, on each kind of network whose outputs it names."""
    needs = set(LOSSES.entry(name).tags["outputs"])
    models = [
        Spec("cnn", {"head": {"name": head}})
        for head in HEADS.names()
        if needs & set(HEADS.entry(head).tags["outputs"])
    ]
    models += [Spec(model) for model in MODELS.names() if needs & set(MODELS.entry(model).tags.get("outputs", ()))]
    assert models
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(40, 1, 8, 8, generator=draw), torch.arange(40) % 10
    for spec in models:
        model = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.0,), std=(1.0,))
        loss, optimizer = build_loss(Spec(name)), torch.optim.Adam(model.parameters(), lr=1e-3)
        values = []
        for _ in range(10):
            value = loss(model, model.outputs(images), labels)
            assert value.shape == (() if LOSSES.entry(name).tags.get("batch") else (40,))
            optimizer.zero_grad()
            value.mean().backward()
            optimizer.step()
            values.append(value.mean().item())
        assert values[-1] < values[0]
