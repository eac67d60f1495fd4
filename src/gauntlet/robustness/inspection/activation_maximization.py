"""Activation maximization: images that raise responses of a network, found from mid gray by gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction, per_sample

GRAY = 0.5
CONTRAST = 0.25
"""Root mean square by which the values that a response sees may differ from gray."""

STEPS = 20

Responses = Callable[[Tensor], Tensor]
"""Maps images `(B, C, H, W)` to responses `(B, R)`."""


@dataclass(frozen=True)
class MaximizingImages:
    """Images `(R, C, H, W)` in [0, 1], image r for response r.

    `start` and `value` `(R,)` are the responses to mid gray and to the image.
    """

    images: Tensor
    start: Tensor
    value: Tensor


def maximize_responses(
    responses: Responses, count: int, shape: Sequence[int], *, values: int, device: torch.device
) -> MaximizingImages:
    """Find an image of `shape` (C, H, W) that raises response r, for each of the first `count` responses.

    Projected gradient ascent from mid gray, 20 steps of 2.5 radii / 20, in an L2 ball cut with the box [0, 1], whose
    radius lets `values` values of an image differ from gray by 0.25 in the root mean square. The best point is kept, so
    no response decreases; without a gradient it is gray. Source: Erhan et al. 2009, "Visualizing Higher-Layer Features
    of a Deep Network", Université de Montréal, technical report 1341.
    """
    gray = torch.full((count, *shape), GRAY, device=device)
    radius = CONTRAST * math.sqrt(values)
    ball, size = Ball(gray, radius, "l2"), 2.5 * radius / STEPS
    start, gradient = _response_and_gradient(responses, gray)
    best, highest, point = gray, start, gray
    for _ in range(STEPS):
        point = ball.project(point + size * direction(gradient.nan_to_num(0.0), "l2"))
        value, gradient = _response_and_gradient(responses, point)
        improved = value > highest
        best, highest = torch.where(per_sample(improved, point), point, best), torch.where(improved, value, highest)
    return MaximizingImages(best, start, highest)


def _response_and_gradient(responses: Responses, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return response r to image r, `(R,)`, and its gradient, of the shape of x; zero where none reaches the image."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        own = responses(leaf).diagonal()
        gradient = torch.autograd.grad(own.sum(), leaf, allow_unused=True)[0] if own.requires_grad else None
    return own.detach(), torch.zeros_like(x) if gradient is None else gradient
