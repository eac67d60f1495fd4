"""Transfer attacks, random models, and useless gradients, as recorded in the rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.core.errors import InputError
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.preflight import check_model
from gauntlet.robustness.random_networks import mean_logits

RANDOM = torch.Generator().manual_seed(4)
IMAGES = torch.rand(12, 1, 4, 4, generator=RANDOM)
PGD: dict[str, Any] = {"name": "pgd", "norm": "linf", "epsilons": [0.3], "steps": 8}


class Linear(nn.Module):
    """Three classes by a fixed matrix; counts its queries."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 16, generator=torch.Generator().manual_seed(seed)))
        self.asked = 0

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        self.asked += len(x)
        return self.linear(x.flatten(1))


def predicted_labels(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network(IMAGES).argmax(1)


def test_a_transfer_queries_the_target_only_for_the_final_judgment() -> None:
    """Every image is crafted on the source, and the target sees it once."""
    target, source = Linear(1).eval(), Linear(2).eval()
    labels = predicted_labels(target)
    clean = gauntlet.evaluate(target, IMAGES, labels, {"name": "gaussian_noise", "norm": "l2", "epsilons": [1e-6]})
    assert set(clean["status"].to_pylist()) == {"robust"}
    target.asked = 0
    check_model(Judge(target, device=torch.device("cpu")), IMAGES, labels)
    before, target.asked = target.asked, 0
    rows = gauntlet.evaluate(target, IMAGES, labels, PGD, sources=[source])
    # After the preflight: the classes for the check of gradients, the clean images, the results.
    assert target.asked == before + 3 * len(IMAGES)
    assert set(rows["forwards"].to_pylist()) == set(rows["backwards"].to_pylist()) == {8}


def test_an_identical_source_transfers_and_an_unrelated_one_transfers_less() -> None:
    """An identical source fools every sample, and another one no sample that the white-box attack leaves."""
    target = Linear(1).eval()
    labels = predicted_labels(target)

    def fooled(**more: Any) -> list[bool]:
        rows = gauntlet.evaluate(target, IMAGES, labels, PGD | {"epsilons": [0.2]}, **more)
        return [status == "adversarial" for status in rows["status"].to_pylist()]

    white, same, other = fooled(), fooled(sources=[Linear(1).eval()]), fooled(sources=[Linear(2).eval()])
    assert sum(white) == sum(same) > sum(other)
    assert all(mine for mine, theirs in zip(white, other, strict=True) if theirs)


def test_several_sources_are_one_ensemble() -> None:
    """Outputs are the logarithm of the mean probability, and each source's passes are counted."""
    sources = [Linear(2).eval(), Linear(3).eval()]
    model = AttackModel(Linear(1).eval(), sources=sources)
    model.start_counting(len(IMAGES))
    logits = model.logits(IMAGES)
    expected = torch.stack([source(IMAGES).softmax(1) for source in sources]).mean(0).log()
    assert torch.allclose(logits, expected, atol=1e-5)
    assert model.counts.totals["forwards"].tolist() == [2] * len(IMAGES)


@pytest.mark.parametrize("draws", [1, 4])
def test_passes_of_every_source_are_counted(draws: int) -> None:
    """Of two random sources, each draw is two passes, forwards and backwards."""
    model = AttackModel(Linear(1).eval(), sources=[Noisy(2).eval(), Noisy(3).eval()], draws=draws)
    model.start_counting(len(IMAGES))
    model.gradients(IMAGES, torch.zeros(len(IMAGES), dtype=torch.int64), UNTARGETED_LOSSES["margin"])
    counts = model.counts.totals
    assert counts["forwards"].tolist() == counts["backwards"].tolist() == [2 * draws] * len(IMAGES)


class Noisy(Linear):
    """Model that adds noise to the image at every pass, also in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Map noisy images to logits."""
        return super().forward(x + 0.05 * torch.randn(x.shape))


def test_a_random_model_is_refused_unless_its_draws_are_averaged() -> None:
    """With `draws` attack and judge average, with the same result every time."""
    network = Noisy(1).eval()
    labels = predicted_labels(Linear(1).eval())
    with pytest.raises(InputError, match="outputs differ between two passes over the same images; set `draws: 20`"):
        gauntlet.evaluate(network, IMAGES, labels, PGD)
    torch.manual_seed(1)
    rows = gauntlet.evaluate(network, IMAGES, labels, PGD | {"draws": 5, "steps": 4})
    torch.manual_seed(2)
    assert rows.equals(gauntlet.evaluate(network, IMAGES, labels, PGD | {"draws": 5, "steps": 4}))
    assert "adversarial" in rows["status"].to_pylist()
    robust = [row for row in rows.to_pylist() if row["status"] == "robust"]
    assert all(row["backwards"] == 4 * 5 for row in robust)


def test_a_random_model_draws_anew_at_every_point() -> None:
    """Draws depend on the image's content; those of the judge are others."""
    model = AttackModel(Noisy(1).eval(), draws=2)
    model.start_counting(len(IMAGES))
    first, second = model.logits(IMAGES), model.logits(IMAGES + 1e-7)
    assert torch.equal(first, model.logits(IMAGES))
    assert not torch.allclose(first, second, atol=1e-3)
    assert not torch.allclose(first, model.judge.logits(IMAGES, draws=2), atol=1e-3)
    assert torch.allclose(model.judge.logits(IMAGES), model.judge.logits(IMAGES))
    assert torch.allclose(mean_logits([first, first]), first.log_softmax(1), atol=1e-6)


class Patchy(Linear):
    """Model whose gradient is NaN if the first pixel is dark and zero if the last one is."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        if x.requires_grad:
            dark, dim = x.detach()[:, :, :1, :1] < 0.3, x.detach()[:, :, 3:, 3:] < 0.3
            x = x.view_as(x)
            x.register_hook(lambda slope: torch.where(dark, torch.nan, torch.where(dim, 0.0, slope)))
        return super().forward(x)


FEW = {"norm": "linf", "steps": 8, "epsilons": [0.01]}


@pytest.mark.parametrize("attack", [{"name": "pgd", **FEW}, {"name": "foolbox:LinfPGD", **FEW}], ids=["own", "foolbox"])
def test_gradients_that_are_zero_or_not_finite_are_counted_in_the_rows(attack: dict[str, Any]) -> None:
    """They affect no other sample and give no NaN image."""
    network = Patchy(1).eval()
    images = IMAGES.clone()
    # In the middle of the box, so that a random start does not leave the patch.
    images[:, 0, 0, 0], images[:, 0, 3, 3] = 0.6, 0.6
    images[:4, 0, 0, 0], images[4:8, 0, 3, 3] = 0.1, 0.1
    with torch.no_grad():
        labels = network(images).argmax(1)
    rows = gauntlet.evaluate(network, images, labels, attack).to_pylist()
    assert [row["status"] for row in rows] == ["robust"] * 12
    assert [row["nonfinite_gradients"] for row in rows] == [8] * 4 + [0] * 8
    assert [row["zero_gradients"] for row in rows] == [0] * 4 + [8] * 4 + [0] * 4
