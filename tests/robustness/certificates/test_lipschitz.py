"""The Lipschitz certificate: exact where the answer is known, rounded down, and refused where nothing is proven."""

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
    """What a network states of itself."""

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
    """Two logits that fall and rise along the same direction: each is 1-Lipschitz, together sqrt(2)-Lipschitz."""

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
    """The L2 distance of an affine model's nearest other class, in float64: `(B,)`."""
    weight = network.weight.detach().double()  # type: ignore[union-attr,operator]
    logits = (x.double().flatten(1) - 0.5) @ weight.T
    gap = logits.gather(1, y[:, None]) - logits
    steep = torch.cdist(weight, weight)[y]
    return torch.where(steep > 1e-9, gap / steep.clamp(min=1e-12), torch.inf).amin(1)


@pytest.mark.parametrize(("head", "expected"), [("joint", 0.5 / math.sqrt(2.0)), ("disjoint", 0.25)])
def test_radii_by_hand(head: str, expected: float) -> None:
    """Logits 0.75 and 0.25 of a 1-Lipschitz network: the difference over the root of 2, or over 2."""
    network = nn.Flatten().eval()
    network.lipschitz = Claim(1.0, head=head)  # type: ignore[assignment]
    x = torch.tensor([[[[0.75, 0.25], [0.0, 0.125]]]])
    radius = lipschitz(network, x, torch.tensor([0]))
    assert radius.item() == pytest.approx(expected, rel=1e-5)
    assert radius.item() <= expected


@pytest.mark.parametrize("scale", [0.3, 1.0, 7.0])
def test_it_is_exact_and_never_above_on_a_joint_isometry(scale: float) -> None:
    """The true distance there is margin / (sqrt(2) L): the certificate is that, less rounding, and never more."""
    network = Isometry(scale).eval()
    labels = network(IMAGES).argmax(1)
    radius = lipschitz(network, IMAGES, labels).double()
    exact = exact_distance(network, IMAGES, labels)
    assert (radius <= exact).all()
    assert torch.allclose(radius, exact, rtol=1e-3)


def test_disjoint_heads_are_divided_by_two() -> None:
    """Where each logit alone is 1-Lipschitz, margin / 2 is the true distance; margin / sqrt(2) would be false."""
    network = OneAgainstRest("disjoint").eval()
    labels = network(IMAGES).argmax(1)
    radius, exact = lipschitz(network, IMAGES, labels).double(), exact_distance(network, IMAGES, labels)
    assert (radius <= exact).all()
    assert torch.allclose(radius, exact, rtol=1e-3)
    claimed = lipschitz(OneAgainstRest("joint").eval(), IMAGES, labels).double()
    assert torch.allclose(claimed / radius, torch.tensor(math.sqrt(2.0)).double())


def test_the_constant_scales_the_radius() -> None:
    """A claimed constant twice as large halves the radius."""
    network = Isometry(1.0).eval()
    labels = network(IMAGES).argmax(1)
    radius = lipschitz(network, IMAGES, labels)
    network.lipschitz = Claim(2.0)
    assert torch.allclose(lipschitz(network, IMAGES, labels), radius / 2)


@pytest.mark.parametrize(
    "claim", [None, Claim(math.inf), Claim(0.0), Claim(math.nan), Claim(norm="linf"), Claim(head="?")]
)
def test_what_proves_nothing_is_refused(claim: Claim | None) -> None:
    """An unconstrained network gets no certificate, nor does one whose claim is not an L2 bound."""
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
    """The float32 stored is never above the float64 computed, and is the nearest such."""
    values = np.random.default_rng(0).random(10_000)
    rounded = round_down(values)
    assert rounded.dtype == np.float32
    assert (rounded.astype(np.float64) <= values).all()
    assert (np.nextafter(rounded, np.float32(np.inf)).astype(np.float64) > values).all()
    assert round_down(np.array([0.0, 0.5])).tolist() == [0.0, 0.5]


def test_rows_say_what_was_certified() -> None:
    """One row per image in order; radius 0 where misclassified or where the margin is within rounding."""
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


OF_MODELS = [name for name, entry in CERTIFICATES.catalogue.items() if entry.tags.get("certifies", "model") == "model"]


@pytest.mark.parametrize("name", OF_MODELS)
def test_no_attack_comes_nearer_than_a_certificate(name: str) -> None:
    """Attacks that come within a percent of the true distance refute no certificate, and refute a false one."""
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
            larger = pa.array(certified["radius"].to_numpy() * np.float32(1.05))
            wider = certified.set_column(certified.schema.get_field_index("radius"), "radius", larger)
            assert find_counterexamples(wider, found).num_rows > 20
