"""Randomized smoothing: its arithmetic by other formulas, its failure probability by trials, and its classifier."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.config.certificates import Certificate
from gauntlet.core.errors import InputError
from gauntlet.core.randomness import sample_keys
from gauntlet.registry import Spec
from gauntlet.robustness.certificates.certified_predictions import CertifiedPredictions
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.certificates.counterexamples import find_counterexamples
from gauntlet.robustness.certificates.smoothing import predictions_from_counts, smoothing
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate

NORMAL = NormalDist()
IDENTITY = CellIdentity("e", "v", 0)
SETTINGS = {"name": "c", "norm": "l2", "identity": IDENTITY}


def of_counts(
    selection: list[int], estimation: list[int], *, sigma: float = 0.25, alpha: float = 0.001
) -> CertifiedPredictions:
    return predictions_from_counts(
        np.array([selection]), np.array([estimation]), n=sum(estimation), sigma=sigma, alpha=alpha
    )


@pytest.mark.parametrize(("n", "sigma", "alpha"), [(100_000, 0.25, 0.001), (1000, 0.5, 0.001), (20, 1.0, 0.05)])
def test_equal_answers_give_the_largest_radius(n: int, sigma: float, alpha: float) -> None:
    """With n equal answers the bound is alpha^(1/n)."""
    found = of_counts([0, 100], [0, n], sigma=sigma, alpha=alpha)
    radius = sigma * NORMAL.inv_cdf(alpha ** (1 / n))
    assert found.prediction.tolist() == [1]
    assert found.radius.dtype == np.float32
    assert 0 <= radius - float(found.radius[0]) <= 1e-6
    assert 0 <= alpha ** (1 / n) - float(found.confidence[0]) <= 1e-6


def test_the_largest_radii_are_those_of_the_paper() -> None:
    """100000 copies at alpha 0.001 reach 3.8 sigma, the end of the published curves."""
    radii = [float(of_counts([100], [100_000], sigma=sigma).radius[0]) for sigma in (0.25, 0.5, 1.0)]
    assert radii == pytest.approx([0.95, 1.91, 3.81], abs=0.005)


@pytest.mark.parametrize(
    ("hits", "n", "alpha"), [(70, 100, 0.001), (99, 100, 0.05), (61, 80, 0.01), (550, 1000, 0.001)]
)
def test_the_bound_is_where_the_binomial_tail_is_alpha(hits: int, n: int, alpha: float) -> None:
    """Clopper and Pearson's definition by sums: at the bound, so many hits or more have probability alpha."""
    found = of_counts([9, 1], [hits, n - hits], alpha=alpha)
    p = float(found.confidence[0])
    tail = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(hits, n + 1))
    assert tail == pytest.approx(alpha, rel=1e-4)
    assert float(found.radius[0]) == pytest.approx(max(0.0, 0.25 * NORMAL.inv_cdf(p)), abs=1e-6)
    assert found.prediction.tolist() == [0 if p > 0.5 else -1]


def test_a_bound_of_at_most_one_half_is_an_abstention() -> None:
    """It has no class and no radius, for any class and without any hit."""
    for estimation in ([500, 500], [548, 452], [0, 1000], [0, 0]):
        found = predictions_from_counts(np.array([[60, 40]]), np.array([estimation]), n=1000, sigma=0.25, alpha=0.001)
        assert (found.prediction.tolist(), found.radius.tolist()) == ([-1], [0.0])
    assert of_counts([60, 40], [550, 450]).prediction.tolist() == [0]
    assert predictions_from_counts(
        np.array([[6, 4]]), np.array([[0, 9]]), n=9, sigma=1.0, alpha=0.1
    ).confidence.tolist() == [0.0]


def test_the_first_copies_choose_the_class_and_the_others_bound_it() -> None:
    """A class that leads the second count only is not certified; the first of equal counts is chosen."""
    assert of_counts([40, 60], [1000, 0]).prediction.tolist() == [-1]
    assert of_counts([0, 50, 50], [0, 990, 10]).prediction.tolist() == [1]
    assert of_counts([0, 50, 50], [0, 10, 990]).prediction.tolist() == [-1]


class HalfSpace(nn.Module):
    """Two classes on either side of a plane: the class's probability under noise is Phi(distance / sigma)."""

    def __init__(self) -> None:
        super().__init__()
        self.normal = nn.Parameter(torch.tensor([0.6, 0.8, 0.0, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 2, 2)` to logits `(B, 2)`; the signed distance of the plane through 0 is their half."""
        side = x.flatten(1) @ self.normal
        return torch.stack([-side, side], 1)


class Brightest(nn.Module):
    """Model whose logits are the pixels, so that nothing is rounded."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 2, 2)` to logits `(B, 4)`."""
        return x.flatten(1)


def trials(distance: float, count: int, **options: Any) -> CertifiedPredictions:
    """Certify the image at a distance from the plane repeatedly, with independent draws."""
    image = torch.tensor([0.6, 0.8, 0.0, 0.0]).mul(distance).reshape(1, 1, 2, 2)
    keys = sample_keys(0, "trials", [str(number) for number in range(count)])
    return smoothing(HalfSpace(), image.expand(count, 1, 2, 2), keys=keys, batch_size=8192, **options)


@pytest.mark.parametrize("distance", [0.05, 0.15, 0.3])
def test_the_bound_holds_as_often_as_stated(distance: float) -> None:
    """The bound exceeds the true probability, and the radius the distance, in at most alpha of the trials.

    The image lies at the edge of the pixel range, so that clipped noise would be found out.
    """
    sigma, alpha, count = 0.25, 0.05, 1000
    found = trials(distance, count, sigma=sigma, n0=20, n=150, alpha=alpha)
    truth = np.where(found.prediction == 0, 1 - NORMAL.cdf(distance / sigma), NORMAL.cdf(distance / sigma))
    decided = found.prediction >= 0
    false = int((found.confidence > truth)[decided].sum())
    assert false <= alpha * count + 4 * math.sqrt(alpha * (1 - alpha) * count)
    assert (found.radius[decided] > distance).sum() <= false
    # Close to alpha: a bound that always held would be looser than it need be, or the trials not independent.
    if distance == 0.15:
        assert false >= 10


def test_the_class_is_not_chosen_by_the_copies_that_bound_it() -> None:
    """On the plane, selection by the same draws would be wrong too often."""
    alpha, count = 0.2, 1000
    found = trials(0.0, count, sigma=0.25, n0=150, n=150, alpha=alpha)
    assert (found.confidence > 0.5).sum() <= alpha * count + 4 * math.sqrt(alpha * (1 - alpha) * count)


def test_the_radius_comes_near_the_distance_with_many_copies() -> None:
    """A half space's smoothed boundary is its boundary."""
    found = trials(0.2, 4, sigma=0.25, n0=100, n=20_000, alpha=0.001)
    assert found.prediction.tolist() == [1] * 4
    assert (found.radius < 0.2).all()
    assert found.radius.tolist() == pytest.approx([0.2] * 4, abs=0.02)


IMAGES = torch.rand(9, 1, 2, 2, generator=torch.Generator().manual_seed(5))


def rows(images: Tensor = IMAGES, *, seed: int = 0, identity: CellIdentity = IDENTITY, **options: Any) -> list[dict]:
    batch_size = options.pop("batch_size", 256)
    labels = images.flatten(1).argmax(1)
    spec = Spec("smoothing", {"sigma": 0.2, "n0": 50, "n": 300, **options})
    settings = {"name": "c", "norm": "l2", "identity": identity, "seed": seed, "batch_size": batch_size}
    return certify(Brightest().eval(), images, labels, spec, **settings).to_pylist()


def test_rows_depend_on_neither_batches_nor_order() -> None:
    """Each image has its own draws, so rows are the same for any batch size and order."""
    whole = rows()
    assert {row["status"] for row in whole} == {"certified", "abstained"}
    for batch_size in (1, 7, 1024):
        assert rows(batch_size=batch_size) == whole
    order = [4, 2, 8, 0]
    some = rows(IMAGES[order])
    for row, index in zip(some, order, strict=True):
        assert {**row, "index": index} == whole[index]


def test_other_seeds_draw_other_noise() -> None:
    """Draws depend on the certificate's seed and the model's."""
    whole = [row["clean_confidence"] for row in rows()]
    assert [row["clean_confidence"] for row in rows(seed=1)] != whole
    assert [row["clean_confidence"] for row in rows(identity=CellIdentity("e", "v", 1))] != whole


def test_selection_and_estimation_have_independent_draws() -> None:
    """More copies for one leave the draws of the other unchanged."""
    first, second = rows(n0=50), rows(n0=200)
    assert {row["status"] for row in first} == {"certified", "abstained"}
    assert [row["clean_confidence"] for row in first if row["status"] == "certified"] == [
        row["clean_confidence"] for row, other in zip(second, first, strict=True) if other["status"] == "certified"
    ]


class Flips(nn.Module):
    """Model that is wrong on the input itself and right on nearly all images near it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 2, 2)` to logits `(B, 2)`: class 0 at gray, class 1 anywhere else."""
        off = (x - 0.5).abs().flatten(1).amax(1)
        return torch.stack([1e-3 - off, off - 1e-3], 1)


def test_it_certifies_the_smoothed_classifier_not_the_model() -> None:
    """An error of the model at distance 0 does not refute the certificate, nor does an attack on the model."""
    network, images = Flips().eval(), torch.full((1, 1, 2, 2), 0.5)
    one = torch.ones(1, dtype=torch.int64)
    certified = certify(network, images, one, Spec("smoothing"), **SETTINGS)
    assert certified["status"].to_pylist() == ["certified"]
    wrong = certify(network, images, 0 * one, Spec("smoothing"), **SETTINGS)
    assert (wrong["status"].to_pylist(), wrong["radius"].to_pylist()) == (["already_wrong"], [0.0])
    assert wrong["clean_prediction"].to_pylist() == [1]
    plan = AttackSettings("a", Spec("gaussian_noise"), "l2", (0.5,))
    attacked = evaluate(network, images, one, plan, identity=IDENTITY).rows
    assert attacked["status"].to_pylist() == ["already_wrong"]
    assert len(find_counterexamples(certified, attacked)) == 0
    column = attacked.schema.get_field_index("status")
    attacked = attacked.set_column(column, "status", pa.array(["adversarial"]))
    assert len(find_counterexamples(certified, attacked)) == 1
    assert len(find_counterexamples(certified, attacked, exclude=["c"])) == 0
    assert len(find_counterexamples(pa.concat_tables([certified, _renamed(certified)]), attacked, exclude=["c"])) == 1


def _renamed(table: pa.Table) -> pa.Table:
    return table.set_column(table.schema.get_field_index("certificate"), "certificate", [["d"] * len(table)])


class Breaks(nn.Module):
    """Model that is not finite on the dark side of every noisy copy."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 2, 2)` to logits `(B, 2)`: class 1 if bright, NaN if dark."""
        light = x.flatten(1)[:, 0]
        return torch.stack([torch.where(light > 0.5, 0.0, torch.nan), torch.ones_like(light)], 1)


def test_outputs_that_are_not_finite_count_for_no_class() -> None:
    """They lower the bound, so that images with mostly such copies are not certified."""
    keys = sample_keys(0, "dark", ["a"])
    dark, light = (torch.full((1, 1, 2, 2), value) for value in (0.0, 1.0))
    assert smoothing(Breaks(), dark, keys=keys, batch_size=64).prediction.tolist() == [-1]
    assert smoothing(Breaks(), light, keys=keys, batch_size=64).prediction.tolist() == [1]


def test_too_few_copies_to_certify_anything_are_refused() -> None:
    """At alpha 0.001 nine equal answers prove nothing, and ten do."""
    with pytest.raises(InputError, match="set n to 10 or more"):
        trials(1.0, 1, n=9)
    assert trials(1.0, 1, n=10).prediction.tolist() == [1]


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.125, 0.05, 0.001, 2.0**-20])
def test_configuration_and_certificate_require_the_same_number_of_copies(alpha: float) -> None:
    """Both require the least n with alpha^(1/n) above 1/2."""
    least = next(n for n in range(1, 100) if alpha > 0.5**n)
    Certificate.model_validate({"name": "smoothing", "alpha": alpha, "n": least})
    trials(1.0, 1, n=least, n0=1, alpha=alpha)
    if least > 1:
        with pytest.raises(ValidationError, match=f"; {least} is the least"):
            Certificate.model_validate({"name": "smoothing", "alpha": alpha, "n": least - 1})
        with pytest.raises(InputError, match=f"set n to {least} or more"):
            trials(1.0, 1, n=least - 1, n0=1, alpha=alpha)
