"""Training losses against their definitions and deel-torchlip."""

from __future__ import annotations

import math

import pytest
import torch
from deel import torchlip
from torch import Tensor
from torch.nn import functional

from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.losses import Loss, build_loss
from gauntlet.learning.losses.cross_entropy import cross_entropy
from gauntlet.learning.losses.hinge import hinge
from gauntlet.learning.losses.hkr import hkr, one_against_rest_hinge
from gauntlet.learning.losses.hkr_torchlip import hkr_torchlip
from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.loop import fit
from gauntlet.registry import HEADS, LOSSES, MODELS, Spec


def network(head: str = "softmax") -> Network:
    """Return a small network with the given head."""
    spec = Spec("cnn", {"widths": [4], "head": {"name": head, "hidden": 8}})
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.0,), std=(1.0,))


def batch(count: int = 60, num_classes: int = 10) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(count, num_classes, generator=draw), torch.randint(0, num_classes, (count,), generator=draw)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 100.0])
def test_hkr_equals_its_definition(alpha: float) -> None:
    """HKR equals -KR + alpha H computed class by class in plain loops."""
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
    """The loss is alpha + 1 times the library's with alpha / (alpha + 1) and twice the margin; gradients too."""
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


def gradient(value: Tensor, of: Tensor) -> Tensor:
    """Return the gradient of a value."""
    return torch.autograd.grad(value, of)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("min_margin", [0.25, 1.0])
def test_the_package_form_equals_the_installed_package(alpha: float, min_margin: float) -> None:
    """Value, gradient and Kantorovich-Rubinstein term equal those of deel-torchlip in float64."""
    outputs, labels = batch()
    outputs = outputs.double().requires_grad_()
    target = functional.one_hot(labels, 10)
    value = hkr_torchlip(network(), outputs, labels, alpha=alpha, min_margin=min_margin)
    theirs = torchlip.HKRMulticlassLoss(alpha=alpha, min_margin=min_margin)(outputs, target)
    assert torch.allclose(value, theirs, rtol=1e-12)
    assert torch.allclose(gradient(value, outputs), gradient(theirs, outputs), rtol=1e-12)
    kr = torchlip.KRMulticlassLoss()(outputs, target)
    assert torch.allclose(kantorovich_rubinstein(outputs, labels), kr, rtol=1e-12)


def test_the_documents_form_is_the_package_form_times_101() -> None:
    """Alpha 100, margin 0.25 are the package's alpha 100 / 101, min_margin 0.5: value and gradient in float64."""
    outputs, labels = batch()
    outputs = outputs.double().requires_grad_()
    documents = hkr(network(), outputs, labels, alpha=100.0, margin=0.25)
    package = 101 * hkr_torchlip(network(), outputs, labels, alpha=100 / 101, min_margin=0.5)
    assert torch.allclose(documents, package, rtol=1e-12)
    assert torch.allclose(gradient(documents, outputs), gradient(package, outputs), rtol=1e-12)


def test_hkr_by_hand() -> None:
    """HKR of two samples, o = (1, 0) of class 0 and (0.125, 0.25) of class 1, margin 0.5, all weights 1.

    KR: class 0: 1 - 0.125, class 1: 0.25 - 0, mean 0.5625. H: sample one lacks 0 and 0.5, sample two 0.625 and 0.25,
    mean 0.34375.
    """
    outputs, labels = torch.tensor([[1.0, 0.0], [0.125, 0.25]]), torch.tensor([0, 1])
    assert kantorovich_rubinstein(outputs, labels).item() == 0.5625
    assert one_against_rest_hinge(outputs, labels, 0.5).item() == 0.34375
    assert hkr(network(), outputs, labels, alpha=2.0, margin=0.5).item() == 2 * 0.34375 - 0.5625
    assert hkr_torchlip(network(), outputs, labels, alpha=0.75, min_margin=1.0).item() == 0.75 * 0.34375 - 0.25 * 0.5625


@pytest.mark.parametrize("loss", [hkr, hkr_torchlip])
def test_gradients_of_hkr(loss: Loss) -> None:
    """The gradients of HKR equal finite differences in float64."""
    outputs, labels = batch(12)
    assert torch.autograd.gradcheck(lambda given: loss(network(), given, labels), outputs.double().requires_grad_())


@pytest.mark.parametrize("name", [name for name, entry in LOSSES.catalog.items() if entry.tags.get("kr")])
def test_the_history_holds_the_kr_term(name: str) -> None:
    """KR on validation images equals the library's value for the returned network."""
    data = prepare(Spec("sklearn_digits"), limit={"train": 300, "test": 50})
    spec = Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8})
    model = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=data.mean, std=data.std)
    train, validation = data.splits["train"], data.splits["validation"]
    fitted = fit(model, Spec(name), train, validation, settings=Training(epochs=1), seed=0)
    (row,) = fitted.history.to_pylist()
    with torch.no_grad():
        outputs = fitted.network(to_unit(validation.images))
    theirs = torchlip.KRMulticlassLoss()(outputs, functional.one_hot(validation.labels, 10))
    assert row["kr"] == pytest.approx(theirs.item(), rel=1e-4)
    assert row["train_kr"] is not None


def test_kantorovich_rubinstein_counts_an_absent_class_as_nothing() -> None:
    """A batch without a class, or with one class only, has a finite value."""
    outputs, labels = batch(5)
    assert kantorovich_rubinstein(outputs, labels).isfinite()
    assert kantorovich_rubinstein(outputs, torch.zeros(5, dtype=torch.int64)).isfinite()
    separated = functional.one_hot(labels, 10).float()
    present = len(labels.unique())
    assert kantorovich_rubinstein(separated, labels).item() == pytest.approx(present / 10)


def test_hinge_is_the_mean_shortfall_over_bits() -> None:
    """The hinge loss is 0 on the right codeword, 1 on undecided bits, and 2 per wrong bit."""
    model = network("ecc")
    code = model.head.code
    assert isinstance(code, Tensor)
    labels = torch.tensor([3, 3, 3])
    one_wrong = code[3].clone()
    one_wrong[5] *= -1
    outputs = torch.stack((code[3], torch.zeros(16), one_wrong))
    assert hinge(model, outputs, labels).tolist() == pytest.approx([0.0, 1.0, 2 / 16])


def test_cross_entropy_is_per_sample() -> None:
    """Cross-entropy has one value per sample, the negative log-likelihood."""
    outputs, labels = batch()
    expected = -torch.log_softmax(outputs, dim=1)[torch.arange(60), labels]
    assert torch.allclose(cross_entropy(network(), outputs, labels), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_label_smoothing_spreads_a_share_of_the_target(share: float) -> None:
    """Logits log 7, log 2, log 1 are probabilities 0.7, 0.2, 0.1; a share s of the target is uniform."""
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
def test_every_loss_decreases_on_every_output_it_supports(name: str) -> None:
    """A gradient step lowers the loss on each kind of network whose outputs it supports."""
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
