"""The Lipschitz certificate: exact where the answer is known, rounded down, and refused without a proof."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.registry import CERTIFICATES, Spec
from gauntlet.robustness.certificates.certified_predictions import round_down
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.certificates.counterexamples import find_counterexamples
from gauntlet.robustness.certificates.lipschitz import lipschitz
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate

IDENTITY = CellIdentity("e", "v", 0)


@dataclass(frozen=True)
class Claim:
    """A network's Lipschitz claim."""

    constant: float = 1.0
    norm: str = "l2"
    head: str = "joint"


class Isometry(nn.Module):
    """Logits scale * Q (x - 1/2) with orthonormal rows: jointly scale-Lipschitz, and the bound is attained."""

    def __init__(self, scale: float = 1.0, head: str = "joint", claim: bool = True) -> None:
        super().__init__()
        random = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(scale * torch.linalg.qr(random)[0][:4])
        self.lipschitz = Claim(scale, head=head) if claim else None

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return (x.flatten(1) - 0.5) @ self.weight.T


class OneAgainstRest(nn.Module):
    """Two logits that fall and rise along one direction: each is 1-Lipschitz, together sqrt(2)-Lipschitz."""

    def __init__(self, head: str) -> None:
        super().__init__()
        way = torch.randn(16, generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(torch.stack([way, -way]) / way.norm())
        self.lipschitz = Claim(1.0, head=head)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return (x.flatten(1) - 0.5) @ self.weight.T


IMAGES = 0.5 + 0.2 * (torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(2)) - 0.5)


def exact_distance(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the L2 distance to an affine model's nearest other class, in float64: `(B,)`."""
    weight = network.weight.detach().double()  # type: ignore[union-attr,operator]
    logits = (x.double().flatten(1) - 0.5) @ weight.T
    gap = logits.gather(1, y[:, None]) - logits
    steep = torch.cdist(weight, weight)[y]
    return torch.where(steep > 1e-9, gap / steep.clamp(min=1e-12), torch.inf).amin(1)


@pytest.mark.parametrize(("head", "expected"), [("joint", 0.5 / math.sqrt(2.0)), ("disjoint", 0.25)])
def test_radii_by_hand(head: str, expected: float) -> None:
    """For logits 0.75 and 0.25 of a 1-Lipschitz network the radius is 0.5 / sqrt(2), or 0.5 / 2."""
    network = nn.Flatten().eval()
    network.lipschitz = Claim(1.0, head=head)  # type: ignore[assignment]
    x = torch.tensor([[[[0.75, 0.25], [0.0, 0.125]]]])
    radius = lipschitz(network, x, torch.tensor([0]))
    assert radius.item() == pytest.approx(expected, rel=1e-5)
    assert radius.item() <= expected


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
def test_it_is_exact_and_never_above_on_a_joint_isometry(scale: float) -> None:
    """The radius is the true distance margin / (sqrt(2) L) up to rounding, never more."""
    network = Isometry(scale).eval()
    labels = network(IMAGES).argmax(1)
    radius = lipschitz(network, IMAGES, labels).double()
    exact = exact_distance(network, IMAGES, labels)
    assert (radius <= exact).all()
    assert torch.allclose(radius, exact, rtol=1e-3)


class Cancelling(nn.Module):
    """Logits Q x - Q c with orthonormal rows and c gray: both terms are much larger than their difference."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.randn(784, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weight = nn.Parameter(torch.linalg.qr(random)[0].T.float())
        exact = self.weight.detach().double()
        self.bias = nn.Parameter((-0.5 * exact.sum(1)).float())
        self.lipschitz = Claim(float(torch.linalg.svdvals(exact)[0]) * (1 + 1e-12))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return x.flatten(1) @ self.weight.T + self.bias


@torch.no_grad()
def test_no_point_inside_the_radius_changes_the_class_of_the_network_in_float32() -> None:
    """Rounding errors of intermediate values that cancel are many times those of the logits.

    With an allowance of 2^-20 of the largest logit alone, 79 of these 200 certificates were false.
    """
    network = Cancelling().eval()
    x = (0.5 + 0.01 * torch.randn(200, 1, 28, 28, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    logits = network(x)
    labels, nearest = logits.topk(2).indices.unbind(1)
    radius = lipschitz(network, x, labels).double()
    steep = (network.weight[nearest] - network.weight[labels]).double()
    steep /= steep.norm(dim=1, keepdim=True)
    false = torch.zeros(200, dtype=torch.bool)
    for number in range(20):
        step = (1 - 1e-6 * (number + 1)) * radius[:, None] * steep
        point = (x.double() + step.reshape(x.shape)).float()
        inside = (point.double() - x.double()).flatten(1).norm(dim=1) < radius
        false |= inside & (network(point).argmax(1) != labels)
    assert not false.any()
    margin = logits.topk(2).values.diff(dim=1)[:, 0].neg().double()
    assert torch.allclose(radius, margin / math.sqrt(2.0), atol=1e-5)


def test_disjoint_heads_are_divided_by_two() -> None:
    """If each logit alone is 1-Lipschitz, margin / 2 is the true distance, and margin / sqrt(2) would be false."""
    network = OneAgainstRest("disjoint").eval()
    labels = network(IMAGES).argmax(1)
    radius, exact = lipschitz(network, IMAGES, labels).double(), exact_distance(network, IMAGES, labels)
    assert (radius <= exact).all()
    assert torch.allclose(radius, exact, rtol=1e-3)
    claimed = lipschitz(OneAgainstRest("joint").eval(), IMAGES, labels).double()
    assert torch.allclose(claimed / radius, torch.tensor(math.sqrt(2.0)).double())


def test_the_constant_scales_the_radius() -> None:
    """Twice the constant gives half the radius."""
    network = Isometry(1.0).eval()
    labels = network(IMAGES).argmax(1)
    radius = lipschitz(network, IMAGES, labels)
    network.lipschitz = Claim(2.0)
    assert torch.allclose(lipschitz(network, IMAGES, labels), radius / 2)


@pytest.mark.parametrize(
    "claim", [None, Claim(math.inf), Claim(0.0), Claim(math.nan), Claim(norm="linf"), Claim(head="?")]
)
def test_a_network_without_an_l2_claim_is_refused(claim: Claim | None) -> None:
    """Unconstrained networks and claims in other norms are refused."""
    network = Isometry().eval()
    network.lipschitz = claim
    with pytest.raises(InputError, match="certif"):
        lipschitz(network, IMAGES, torch.zeros(40, dtype=torch.int64))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(InputError, match="states no Lipschitz constant"):
        certify(
            plain, IMAGES, torch.zeros(40, dtype=torch.int64), Spec("lipschitz"), name="c", norm="l2", identity=IDENTITY
        )


def test_radii_are_rounded_down() -> None:
    """The stored float32 is the largest that does not exceed the float64 radius."""
    values = np.random.default_rng(0).random(10_000)
    rounded = round_down(values)
    assert rounded.dtype == np.float32
    assert (rounded.astype(np.float64) <= values).all()
    assert (np.nextafter(rounded, np.float32(np.inf)).astype(np.float64) > values).all()
    assert round_down(np.array([0.0, 0.5])).tolist() == [0.0, 0.5]


def test_rows_hold_radius_and_status_of_each_image() -> None:
    """Radii are 0 for misclassified images and margins within rounding."""
    network = Isometry().eval()
    images = torch.cat([IMAGES[:5], torch.full((1, 1, 4, 4), 0.5)])
    labels = network(images).argmax(1)
    labels[2] = (labels[2] + 1) % 4
    rows = certify(
        network, images, labels, Spec("lipschitz"), name="margin", norm="l2", identity=IDENTITY, batch_size=4
    )
    assert rows.schema.equals(CERTIFICATE_SCHEMA)
    table = rows.to_pandas()
    assert table["index"].tolist() == list(range(6))
    right = ["certified", "certified", "already_wrong", "certified", "certified", "abstained"]
    assert table["status"].tolist() == right
    assert (table["radius"] > 0).tolist() == [status == "certified" for status in right]
    assert table["label"].tolist() == labels.tolist()


OF_MODELS = [name for name, entry in CERTIFICATES.catalog.items() if entry.tags.get("certifies", "model") == "model"]


@pytest.mark.parametrize("name", OF_MODELS)
def test_no_attack_comes_nearer_than_a_certificate(name: str) -> None:
    """Attacks within one percent of the true distance refute a false certificate only."""
    network = Isometry(30.0).eval()
    labels = network(IMAGES).argmax(1)
    certified = certify(network, IMAGES, labels, Spec(name), name="c", norm="l2", identity=IDENTITY)
    for attack, norm, epsilons, options in (
        ("foolbox:DDNAttack", "l2", None, {"steps": 200}),
        ("pgd", "l2", tuple(np.linspace(0.002, 0.1, 30).tolist()), {"steps": 20}),
        ("bim", "linf", (0.01, 0.03), {}),
    ):
        plan = AttackSettings("a", Spec(attack, options), norm, epsilons)
        found = evaluate(network, IMAGES, labels, plan, identity=IDENTITY).rows
        assert find_counterexamples(certified, found).num_rows == 0
        if attack == "foolbox:DDNAttack":
            larger = pa.array(certified["radius"].to_numpy() * 1.05)
            wider = certified.set_column(certified.schema.get_field_index("radius"), "radius", larger)
            assert find_counterexamples(wider, found).num_rows > 20
