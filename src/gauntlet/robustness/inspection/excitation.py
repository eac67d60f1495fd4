"""What excites a part of a network: an input that raises its response, found from mid grey by gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction, per_sample

GREY = 0.5
CONTRAST = 0.25
"""How far from grey the values that count may be: their root mean square."""

STEPS = 20

Responses = Callable[[Tensor], Tensor]
"""Maps images `(B, C, H, W)` to responses `(B, R)`."""


@dataclass(frozen=True)
class Excited:
    """Images `(R, C, H, W)` in [0, 1], image r for response r: that to mid grey, `start`, and to the image, `value`."""

    images: Tensor
    start: Tensor
    value: Tensor


def excite(responses: Responses, count: int, shape: Sequence[int], *, values: int, device: torch.device) -> Excited:
    """Find, for each of the first `count` responses, an image of `shape` (C, H, W) that raises it.

    Projected gradient ascent from mid grey, 20 steps of 2.5 radii / 20, in an L2 ball cut with the box [0, 1]; its
    radius lets so many `values` of an image differ from grey by 0.25 in the root mean square. The best point on the
    way is kept, so that no response falls; without a gradient it is grey.
    """
    grey = torch.full((count, *shape), GREY, device=device)
    radius = CONTRAST * math.sqrt(values)
    ball, size = Ball(grey, radius, "l2"), 2.5 * radius / STEPS
    start, gradient = _ascent(responses, grey)
    best, highest, point = grey, start, grey
    for _ in range(STEPS):
        point = ball.project(point + size * direction(gradient.nan_to_num(0.0), "l2"))
        found, gradient = _ascent(responses, point)
        better = found > highest
        best, highest = torch.where(per_sample(better, point), point, best), torch.where(better, found, highest)
    return Excited(best, start, highest)


def _ascent(responses: Responses, x: Tensor) -> tuple[Tensor, Tensor]:
    """Give response r to image r, `(R,)`, and its gradient there, of the shape of x; zero where none reaches it."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        own = responses(leaf).diagonal()
        gradient = torch.autograd.grad(own.sum(), leaf, allow_unused=True)[0] if own.requires_grad else None
    return own.detach(), torch.zeros_like(x) if gradient is None else gradient
