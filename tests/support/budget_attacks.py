"""Attacks whose success at each budget is known, and the networks that they fool."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.registry import ATTACKS

CALLS: list[tuple[float, int]] = []
"""Budget and number of samples of each call."""


class Brightness(nn.Module):
    """Model of class 1 for a mean pixel above 1/2: brightening by 1/2 - mean is the nearest attack."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        level = self.scale * (x.flatten(1).mean(1) - 0.5)
        return torch.stack([-level, level], 1)


def upward(model: Any, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Brighten all pixels by epsilon, the nearest attack, after one query."""
    CALLS.append((epsilon, len(x)))
    model.logits(x)
    return (x + epsilon).clamp(0, 1)


@ATTACKS.register("direct", kind="bounded", norms=("linf", "l2"), access="gradient", downward=("linf",))
def direct(model: Any, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Brighten all pixels by epsilon: what fools at a budget fools at every smaller one at which anything does."""
    if norm == "l2":
        epsilon = epsilon / x[0].numel() ** 0.5
    return upward(model, x, y, norm=norm, epsilon=epsilon)


@ATTACKS.register("wasteful", kind="bounded", norms=("linf",), access="gradient", downward=("linf",))
def wasteful(model: Any, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Brighten half of the pixels where that is enough, else all: a projected success needs twice the budget."""
    bright = upward(model, x, y, norm=norm, epsilon=epsilon)
    half = x.clone()
    half[..., ::2] = bright[..., ::2]
    enough = model.judge.logits(half).argmax(1) != y
    return torch.where(enough[:, None, None, None], half, bright)


CODE = 1e-3
SCRIPTS: list[dict[float, str]] = []
"""For each sample, what happens at each budget: ``hold``, ``fool``, ``nan``, or ``leave`` the ball."""


class Coded(nn.Module):
    """Model of class 1 where the first pixel moved by as much as the second one says: projection never fools it."""

    def __init__(self, epsilons: tuple[float, ...]) -> None:
        super().__init__()
        self.epsilons = nn.Parameter(torch.tensor([-1.0, *epsilons]))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        first, second = x[:, 0, 0, 0] - 0.5, x[:, 0, 0, 1] - 0.5
        code = (second / CODE).round().long().clamp(0, len(self.epsilons) - 1)
        fooled = ((first - self.epsilons[code]).abs() < 1e-4).to(x.dtype)
        return torch.stack([1 - fooled, fooled], 1) + 0 * x.flatten(1).sum(1, keepdim=True)


def coded_images(count: int) -> Tensor:
    """Return gray images `(count, 1, 2, 2)` whose third pixel is the number of the sample, in 256ths."""
    images = torch.full((count, 1, 2, 2), 0.5)
    images[:, 0, 1, 0] = torch.arange(count) / 256
    return images


@ATTACKS.register("scripted", kind="bounded", norms=("linf",), access="scores", downward=("linf",))
def scripted(model: Any, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Do for each sample what its script says; any other call of the sample's fails the test."""
    CALLS.append((epsilon, len(x)))
    result = x.clone()
    for image, number in zip(result, (x[:, 0, 1, 0] * 256).round().long().tolist(), strict=True):
        outcome, position = SCRIPTS[number][epsilon], sorted(SCRIPTS[number]).index(epsilon)
        if outcome == "fool":
            image[0, 0, 0] += epsilon
            image[0, 0, 1] += CODE * (position + 1)
        elif outcome == "nan":
            image[0, 0, 0] = torch.nan
        elif outcome == "leave":
            image[0, 0, 0] += 2 * epsilon
    return result


scripted_upward = ATTACKS.register("scripted_upward", kind="bounded", norms=("linf",), access="scores")(scripted)
