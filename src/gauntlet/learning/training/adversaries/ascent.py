"""Projected gradient ascent from a given point, the inner loop of adversarial training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction


def ascend(objective: Callable[[Tensor], Tensor], start: Tensor, ball: Ball, *, steps: int, step_size: float) -> Tensor:
    """Step along the gradient of `objective`, a sum over samples, projecting to ball and box after each step.

    `start` and the result are `(B, C, H, W)`; one forward and one backward pass a step, with respect to images alone.
    """
    x = start.detach()
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        x = ball.project(leaf.detach() + step_size * direction(gradient, ball.norm))
    return x
