"""MixUp and CutMix: values, shares, draws per image, and training with mixed targets."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.config.variants import Training
from gauntlet.core.errors import InputError
from gauntlet.learning.data.mixings import build_mixing, draw_partners, draw_shares
from gauntlet.learning.losses import build_loss
from gauntlet.learning.losses.mixed import mixed_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.training.objective import TrainingObjective
from gauntlet.registry import LOSSES, MIXINGS, MODELS, Spec

SOFT = [name for name in LOSSES.names() if LOSSES.entry(name).tags.get("soft")]


def images(count: int = 200) -> Tensor:
    """Return images, each of one brightness of its own."""
    return (torch.arange(count) / count)[:, None, None, None].expand(count, 2, 8, 6).contiguous()


def draws(seed: int = 0) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", MIXINGS.names())
def test_an_image_is_mixed_in_the_shares_that_are_returned(name: str) -> None:
    """The mean of each mixed image is the weighted mean of both images: targets have the shares of the pixels."""
    x = images()
    mixture = build_mixing(Spec(name, {"alpha": 1.0}))(x, draws())
    shares, partners = mixture.shares, x[mixture.partners]
    expected = shares * x.mean((1, 2, 3)) + (1 - shares) * partners.mean((1, 2, 3))
    torch.testing.assert_close(mixture.images.mean((1, 2, 3)), expected)
    assert mixture.images.shape == x.shape
    assert sorted(mixture.partners.tolist()) == list(range(len(x)))
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert len(set(shares.tolist())) > 10


@pytest.mark.parametrize("alpha", [0.001, 0.5, 1.0, 50.0])
def test_shares_of_mixup_have_the_beta_distribution(alpha: float) -> None:
    """Mean and variance are 1/2 and 1 / (8 alpha + 4); a small alpha does not underflow."""
    shares = build_mixing(Spec("mixup", {"alpha": alpha}))(images(4000), draws()).shares.double()
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (8 * alpha + 4), rel=0.1)


def test_rectangles_of_cutmix_are_cut_at_the_border() -> None:
    """With a small alpha half of the images stay whole, and whole rectangles keep 1 - (3/4)^2 of the others."""
    shares = build_mixing(Spec("cutmix", {"alpha": 0.001}))(images(4000), draws()).shares
    whole = shares > 0.999
    assert whole.double().mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares[~whole].mean().item() == pytest.approx(1 - 0.75**2, abs=0.05)


@pytest.mark.parametrize("name", MIXINGS.names())
def test_draws_come_from_the_generator(name: str) -> None:
    """Equal generators give equal mixtures whatever the global state, others do not."""
    mixing = build_mixing(Spec(name, {"alpha": 1.0}))
    first = mixing(images(), draws())
    torch.manual_seed(3)
    again, other = mixing(images(), draws()), mixing(images(), draws(1))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.partners, again.partners)
    assert not torch.equal(first.images, other.images)


def test_cutmix_replaces_a_rectangle() -> None:
    """Pixels are those of one image or the other, and the replaced ones fill a rectangle."""
    x = images()
    mixture = build_mixing(Spec("cutmix", {"alpha": 1.0}))(x, draws())
    replaced = (mixture.images == x[mixture.partners]).all(1) & (x[mixture.partners] != x).all(1)
    assert ((mixture.images == x) | replaced[:, None]).all()
    for mask in replaced:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()


def test_rectangles_of_cutmix_are_those_of_the_authors() -> None:
    """Side and center are drawn here in the same order, and cut as in the authors' function `rand_bbox`."""
    x, height, width = images(), 8, 6
    mixture = build_mixing(Spec("cutmix", {"alpha": 1.0}))(x, draws())
    generator = draws()
    partners, shares = draw_partners(x, generator), draw_shares(x, generator, 1.0)
    centers = torch.rand((2, len(x)), generator=generator)
    for number, share in enumerate(shares.tolist()):
        mask = np.zeros((height, width), dtype=bool)
        (top, bottom), (left, right) = (
            np.clip([middle - cut // 2, middle + cut // 2], 0, size)
            for size, middle, cut in (
                (size, int(center * size), int(size * np.sqrt(1 - share)))
                for size, center in ((height, float(centers[0, number])), (width, float(centers[1, number])))
            )
        )
        mask[top:bottom, left:right] = True
        expected = torch.where(torch.from_numpy(mask), x[partners[number]], x[number])
        assert torch.equal(mixture.images[number], expected)
        ratio = 1 - (bottom - top) * (right - left) / (height * width)
        assert mixture.shares[number].item() == pytest.approx(ratio, abs=1e-6)


def test_the_loss_of_a_mixture_is_that_of_the_soft_target() -> None:
    """Cross-entropy equals that of torch for probabilities; gradients too."""
    logits = torch.randn(50, 5, generator=draws(), dtype=torch.float64, requires_grad=True)
    labels, partners = (torch.randint(5, (50,), generator=draws(seed)) for seed in (1, 2))
    shares = torch.rand(50, generator=draws(3), dtype=torch.float64)
    network: object = None
    values = mixed_loss(build_loss(Spec("cross_entropy")), partners, shares)(network, logits, labels)  # type: ignore[arg-type]
    soft = shares[:, None] * functional.one_hot(labels, 5) + (1 - shares)[:, None] * functional.one_hot(partners, 5)
    expected = functional.cross_entropy(logits, soft, reduction="none")
    torch.testing.assert_close(values, expected)
    gradients = [torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0] for loss in (values, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("loss", SOFT)
def test_every_soft_loss_has_a_mixed_value_per_sample(loss: str) -> None:
    """A share of 1 gives the loss of the label, a share of 0 that of the partner."""
    outputs = LOSSES.entry(loss).tags["outputs"][0]
    head = {"logits": "softmax", "sigmoid": "sigmoid", "codes": "ecc"}[outputs]
    network = build(
        Spec("cnn", {"widths": [2], "head": {"name": head, "hidden": 0}}),
        image_shape=(2, 8, 6),
        num_classes=10,
        mean=(0.5,) * 2,
        std=(0.5,) * 2,
    )
    raw = network.outputs(images(20))
    labels, partners = torch.arange(20) % 10, torch.arange(20).flip(0) % 10
    function = build_loss(Spec(loss))
    for share, target in ((1.0, labels), (0.0, partners)):
        values = mixed_loss(function, partners, torch.full((20,), share))(network, raw, labels)
        torch.testing.assert_close(values, function(network, raw, target))


def test_a_loss_without_a_value_per_sample_is_refused() -> None:
    """A user's loss that is a statistic of the batch has no mixture."""
    statistic = mixed_loss(lambda network, outputs, labels: outputs.mean(), torch.zeros(3).long(), torch.ones(3))
    with pytest.raises(InputError, match=r"training\.mixing"):
        statistic(None, torch.zeros(3, 2), torch.zeros(3).long())  # type: ignore[arg-type]


def test_a_step_mixes_with_its_own_draws_and_counts_the_larger_share() -> None:
    """The step's loss is recomputed here from the mixture; two steps differ; labels are those of the larger share."""
    assert "cnn" in MODELS.names()
    network = build(Spec("cnn"), image_shape=(2, 8, 6), num_classes=10, mean=(0.5,) * 2, std=(0.5,) * 2)
    x, labels = images(40), torch.arange(40) % 10
    settings = Training(mixing=Spec("mixup", {"alpha": 1.0}))
    objective = TrainingObjective(
        copy.deepcopy(network), build_loss(Spec("cross_entropy")), None, settings, seed=4, steps=5
    )
    seen = []
    original = objective.mixing
    objective.mixing = lambda batch, generator: seen.append(original(batch, generator)) or seen[-1]  # type: ignore[misc, func-returns-value]
    first = objective.step_loss(x, labels, epoch=0, step=0)
    other = objective.step_loss(x, labels, epoch=0, step=1)
    assert not torch.equal(seen[0].partners, seen[1].partners)
    assert first.loss != other.loss
    mixture = seen[0]
    logits = network(mixture.images)
    both = [functional.cross_entropy(logits, target, reduction="none") for target in (labels, labels[mixture.partners])]
    expected = (mixture.shares * both[0] + (1 - mixture.shares) * both[1]).mean()
    torch.testing.assert_close(first.loss, expected)
    assert torch.equal(first.labels, torch.where(mixture.shares >= 0.5, labels, labels[mixture.partners]))
