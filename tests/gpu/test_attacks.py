"""Attacks on a GPU find what they find on the CPU, up to rounding where a sample is decided."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.registry import ATTACKS, CERTIFICATES, Spec
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.evaluation import CellIdentity
from tests.support.attack_problems import Problem, gaussian_problem

OPTIONS: dict[str, dict[str, Any]] = {
    "autoattack": {"steps": 10, "queries": 50},
    "square": {"queries": 200},
    "max_confidence": {"steps": 5},
}


def names() -> list[tuple[str, str]]:
    """List our attacks with each of their norms."""
    listed = ((name, norm) for name in ATTACKS.catalog for norm in ATTACKS.entry(name).tags["norms"])
    return [(name, norm) for name, norm in listed if norm in ("linf", "l2", "l1")]


@pytest.mark.parametrize(("name", "norm"), names())
def test_an_attack_finds_what_it_finds_on_the_cpu(device: torch.device, name: str, norm: str) -> None:
    """Of 40 samples at three budgets, at most two are decided otherwise; the draws are the same on both."""
    problem, distance = gaussian_problem(norm, samples=40)
    bounded = ATTACKS.entry(name).tags["kind"] == "bounded"
    budgets = tuple(factor * distance for factor in (0.9, 1.1, 2.0)) if bounded else None
    found = []
    for place in (torch.device("cpu"), device):
        here = Problem(problem.network.to(place), problem.images, problem.labels)
        settings: dict[str, Any] = {"options": OPTIONS.get(name, {}), "precision": "float32", "device": place}
        found.append(here.run(name, norm, budgets, **settings).rows["epsilon"].to_numpy(zero_copy_only=False))
    expected, measured = (np.nan_to_num(epsilon, nan=np.inf) for epsilon in found)
    with np.errstate(invalid="ignore"):
        same = (expected == measured) | (np.abs(expected - measured) <= 0.01 * distance)
    assert int((~same).sum()) <= 2


class Rows(nn.Module):
    """An LSTM over the rows of convolved images."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.convolution = nn.Conv2d(1, 4, 3, padding=1)
            self.recurrent, self.linear = nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 8, 8)` to logits."""
        rows = self.convolution(x).relu().transpose(1, 2).flatten(2)
        logits: Tensor = 20 * self.linear(self.recurrent(rows)[0][:, -1])
        return logits


@pytest.mark.parametrize("name", ["pgd", "apgd"])
def test_an_attack_on_a_recurrent_network_finds_what_it_finds_on_the_cpu(device: torch.device, name: str) -> None:
    """In evaluation mode cuDNN has no gradients of such layers. At most two of 40 samples are decided otherwise."""
    network, images = Rows().eval(), torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    problem = Problem(network, images, network(images).argmax(1))
    expected, measured = (
        problem.run(name, "linf", (0.005, 0.02), precision="float32", device=place).rows["epsilon"].to_pylist()
        for place in (torch.device("cpu"), device)
    )
    assert len(set(expected)) > 1
    assert sum(one != other for one, other in zip(expected, measured, strict=True)) <= 2


@pytest.mark.parametrize("name", [name for name in CERTIFICATES.catalog if name != "lipschitz"])
def test_certificates_are_those_of_the_cpu(device: torch.device, name: str) -> None:
    """The noise is addressed, so that only votes at a boundary may differ."""
    problem, _ = gaussian_problem("l2", samples=10)
    options = {"sigma": 0.1, "n0": 20, "n": 200, "alpha": 0.001} if name == "smoothing" else {}
    radii = [
        certify(
            problem.network.to(place),
            problem.images,
            problem.labels,
            Spec(name, options),
            name="c",
            norm="l2",
            identity=CellIdentity(),
            device=place,
        )["radius"].to_numpy()
        for place in (torch.device("cpu"), device)
    ]
    assert np.allclose(*radii, atol=0.02)
