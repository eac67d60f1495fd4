"""Maps of one unit: two dots that it is trained to fit, and the conjunction and disjunction of two inputs.

Source: Le 2019, journal of logic-inspired networks: two-dot fitting problem; 14 October: the advantage of min and max.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.core.randomness import derive_seed, generator
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.designs import Design

SIDE = 41
LIMIT = 2.0
"""Largest coordinate of the maps."""

DOTS = ((-0.8, -0.8), (0.8, 0.8))
RADIUS = 0.35

_POINTS = 64
_UNITS = 32
_STEPS = 500


def unit_maps(design: Design) -> list[InspectedArray]:
    """Return the map of a trained unit, `dots`, and those of a sum, a minimum and a maximum, `logic`.

    Maps are (41, 41) over [-2, 2] x [-2, 2], rows from below. `dots` has the probability, a sigmoid of the output after
    folding, of a unit trained to be on in two dots, discs of radius 0.35 around (-0.8, -0.8) and (0.8, 0.8), and off
    around them. It is the unit of lowest loss of 32, which is binary cross-entropy over 64 points in the dots and 192
    others, both kinds with the same weight, after 500 steps of Adam. `logic` (3, 41, 41) has the activation of a + b,
    min(a, b) and max(a, b).
    """
    axis = torch.linspace(-LIMIT, LIMIT, SIDE)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)  # (x, y), rows by y
    factory = LayerFactory(unit=design.unit, folding=design.folding, activation=design.activation)
    inputs, targets = dots()
    probability = _fit(factory, inputs, targets)
    correct = ((probability(inputs) > 0.5) == (targets > 0.5)).float()
    balanced = (correct[targets > 0].mean() + correct[targets == 0].mean()) / 2
    with torch.no_grad():
        a, b = points.T
        combined = torch.stack([a + b, torch.minimum(a, b), torch.maximum(a, b)])
        logic = factory.activation().eval()(combined).reshape(3, SIDE, SIDE)
    values = probability(points).reshape(SIDE, SIDE)
    return [
        InspectedArray("dots", design.name, values.numpy(), value=float(balanced)),
        InspectedArray("logic", design.name, logic.numpy()),
    ]


def dots() -> tuple[Tensor, Tensor]:
    """Return points `(256, 2)` and targets `(256,)`: 32 points in each dot, on, and 192 outside of both, off."""
    draws = generator("inspect", "dots")
    angle = 2 * torch.pi * torch.rand(_POINTS, generator=draws)
    distance = RADIUS * torch.rand(_POINTS, generator=draws).sqrt()
    inside = torch.tensor(DOTS).repeat_interleave(_POINTS // 2, 0)
    inside = inside + distance[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    anywhere = LIMIT * (2 * torch.rand(20 * _POINTS, 2, generator=draws) - 1)
    outside = anywhere[(torch.cdist(anywhere, torch.tensor(DOTS)) > 1.5 * RADIUS).all(1)][: 3 * _POINTS]
    return torch.cat([inside, outside]), torch.cat([torch.ones(_POINTS), torch.zeros(3 * _POINTS)])


class _Fitted:
    """The best of several trained units."""

    def __init__(self, layer: torch.nn.Module, unit: int) -> None:
        self.layer, self.unit = layer, unit

    @torch.no_grad()
    def __call__(self, points: Tensor) -> Tensor:
        """Return the probability `(N,)` of being on at points `(N, 2)`."""
        probability: Tensor = self.layer(points)[:, self.unit].sigmoid()
        return probability


def _fit(factory: LayerFactory, inputs: Tensor, targets: Tensor) -> _Fitted:
    """Train units side by side, independent of each other; both kinds of points weigh the same."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.default_generator.manual_seed(derive_seed("inspect", "dots", "weights"))
        layer = factory.dense(2, _UNITS)
        factory.initialize(layer, 1.0)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        weight = torch.where(targets > 0, 1.5, 0.5)[:, None] / len(targets)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            _losses(layer(inputs), targets, weight).sum().backward()
            optimizer.step()
        best = int(_losses(layer(inputs), targets, weight).argmin())
    return _Fitted(layer.eval(), best)


def _losses(outputs: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy of each unit, `(R,)`, for outputs `(N, R)`."""
    losses = functional.binary_cross_entropy_with_logits(outputs, targets[:, None].expand_as(outputs), reduction="none")
    return (weight * losses).sum(0)
