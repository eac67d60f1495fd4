"""The measured Lipschitz constant: exact where it is known, and able to refute a claim."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import LipschitzClaim
from gauntlet.registry import Spec
from gauntlet.robustness.certificates.lipschitz_check import JACOBIANS, check_lipschitz, measure_lipschitz
from gauntlet.robustness.certificates.lipschitz_constants import LipschitzConstants
from tests.support import cheating_certificates

IMAGES = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
MARGIN = Spec("lipschitz")


@dataclass(frozen=True)
class Claim:
    """A Lipschitz claim of any kind."""

    constant: float = 1.0
    norm: str = "l2"
    head: str = "joint"


class Affine(nn.Module):
    """Logits W x."""

    def __init__(self, weight: Tensor, claim: object = None) -> None:
        super().__init__()
        self.weight, self.lipschitz = nn.Parameter(weight), claim

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return x.flatten(1) @ self.weight.T


class Stairs(Affine):
    """Logits that are flat at every gradient, and as steep as W between the steps."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return torch.floor(4 * x).flatten(1) @ self.weight.T / 4


def first_two_pixels(*rows: tuple[float, float]) -> Tensor:
    """Return a weight that reads two pixels."""
    return torch.cat([torch.tensor(rows), torch.zeros(len(rows), 14)], dim=1)


@pytest.mark.parametrize(
    ("rows", "joint", "disjoint"),
    [
        (((3.0, 4.0), (0.0, 0.0)), 5.0, 5.0),
        (((1.0, 0.0), (0.0, 2.0)), 2.0, 2.0),
        (((1.0, 0.0), (-1.0, 0.0)), math.sqrt(2.0), 1.0),
    ],
)
def test_it_is_exact_on_affine_networks(rows: tuple, joint: float, disjoint: float) -> None:
    """It is the spectral norm of W for joint logits, and the largest row norm for single ones."""
    network = Affine(first_two_pixels(*rows))
    assert measure_lipschitz(network, IMAGES, LipschitzClaim(1.0, head="joint")) == pytest.approx(joint, rel=1e-12)
    found = measure_lipschitz(network, IMAGES, LipschitzClaim(1.0, head="disjoint"))
    assert found == pytest.approx(disjoint, rel=1e-12)
    assert network.weight.dtype == torch.float32
    assert network.weight.grad is None


def test_pairs_of_images_count_where_gradients_are_zero() -> None:
    """A staircase has a zero Jacobian; equal images have no ratio, and one image only its Jacobian."""
    steps = Stairs(first_two_pixels((1.0, 0.0), (0.0, 1.0)))
    assert measure_lipschitz(steps, IMAGES, LipschitzClaim(1.0)) > 0.1
    same = IMAGES[:1].repeat(3, 1, 1, 1)
    assert measure_lipschitz(steps, same, LipschitzClaim(1.0)) == 0.0
    affine = Affine(first_two_pixels((3.0, 0.0), (0.0, 4.0)))
    assert measure_lipschitz(affine, same[:1], LipschitzClaim(1.0)) == pytest.approx(4.0)


def test_it_depends_neither_on_batches_nor_on_images_beyond_the_first() -> None:
    """The number of images is bounded, and batches of 3 and 256 agree."""
    network = build(Spec("lipschitz_cnn"), image_shape=(1, 8, 8), num_classes=10, mean=(0.0,), std=(1.0,)).eval()
    exported = network.export()
    images = torch.rand(600, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    claim = exported.lipschitz
    assert claim is not None
    found = measure_lipschitz(exported, images, claim)
    assert 0.1 < found <= claim.constant
    assert measure_lipschitz(exported, images, claim, batch_size=3) == pytest.approx(found, rel=1e-9)
    assert measure_lipschitz(exported, images[:512], claim) == pytest.approx(found, rel=1e-12)
    assert measure_lipschitz(exported, images[: JACOBIANS // 2], claim) <= found * (1 + 1e-9)


@pytest.mark.parametrize("head", ["joint", "disjoint"])
@pytest.mark.parametrize("options", [{}, {"constraint": "projection"}, {"constraint": "frobenius"}], ids=str)
def test_constrained_networks_keep_their_claim(head: str, options: dict[str, str]) -> None:
    """The measured constant is within the claim, and is read back from metadata."""
    spec = Spec("lipschitz_cnn", {"output": head, **options})
    network = build(spec, image_shape=(1, 4, 4), num_classes=10, mean=(0.0,), std=(1.0,)).eval().export()
    checked = check_lipschitz(network, IMAGES, MARGIN)
    assert checked is not None
    assert network.lipschitz is not None
    assert 0 < checked.measured <= checked.claimed == network.lipschitz.constant
    assert LipschitzConstants.from_metadata(checked.metadata()) == checked
    assert LipschitzConstants.from_metadata({}) is None


def test_a_claim_below_the_measured_constant_is_refused() -> None:
    """The exact constant passes; a claim below it by more than rounding does not."""
    weight = first_two_pixels((3.0, 4.0), (0.0, 0.0))
    assert check_lipschitz(Affine(weight, Claim(5.0)), IMAGES, MARGIN) is not None
    with pytest.raises(GauntletError, match=r"claims to be 4.9999-Lipschitz in L2 .* 5 at least"):
        check_lipschitz(Affine(weight, Claim(4.9999)), IMAGES, MARGIN, where="cell")
    with pytest.raises(GauntletError, match=r"joint head"):
        check_lipschitz(Affine(first_two_pixels((1.0, 0.0), (-1.0, 0.0)), Claim(1.0)), IMAGES, MARGIN)
    one_by_one = Affine(first_two_pixels((1.0, 0.0), (-1.0, 0.0)), Claim(1.0, head="disjoint"))
    assert check_lipschitz(one_by_one, IMAGES, MARGIN) == LipschitzConstants(1.0, pytest.approx(1.0))


def test_the_constant_is_measured_for_lipschitz_certificates_only() -> None:
    """Smoothing needs no constant; the certificate refuses networks without an L2 claim."""
    cheat = Affine(first_two_pixels((9.0, 0.0), (0.0, 9.0)), Claim(1.0))
    assert check_lipschitz(cheat, IMAGES, Spec("smoothing")) is None
    assert check_lipschitz(Affine(cheat.weight.detach()), IMAGES, MARGIN) is None
    assert check_lipschitz(Affine(cheat.weight.detach(), Claim(norm="linf")), IMAGES, MARGIN) is None


def test_a_claim_without_the_normalization_is_refuted() -> None:
    """A claim for the layers without the input normalization is refuted on images."""
    network = cheating_certificates.OverclaimingNetwork(
        image_shape=(1, 4, 4), num_classes=10, mean=(0.3,), std=(0.01,)
    ).eval()
    with pytest.raises(GauntletError, match="false claim"):
        check_lipschitz(network, IMAGES, MARGIN)
