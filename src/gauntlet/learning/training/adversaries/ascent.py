"""Projected gradient ascent, the inner loop of adversarial training, and its start next to the images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction
from gauntlet.core.randomness import normal
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network

_START_STD = 1e-3
"""Standard deviation of the start's distance per pixel, as in the code of TRADES and of MART."""


def start_near(images: Tensor, ball: Ball, keys: Tensor) -> Tensor:
    """Return points of the ball next to the images, where a divergence from the images has a gradient."""
    noise = normal(keys, images.shape[1:], stream="start", dtype=images.dtype)
    return ball.project(images + _START_STD * noise)


def ascend_loss(
    network: Network, loss: Loss, labels: Tensor, start: Tensor, ball: Ball, *, steps: int, step_size: float
) -> Tensor:
    """Run projected gradient ascent on the training loss; `labels` are int64 `(B,)`, images `(B, C, H, W)`."""
    # The sum: a mean would scale small gradients down toward underflow.
    return ascend(
        lambda x: loss(network, network.outputs(x), labels).sum(), start, ball, steps=steps, step_size=step_size
    )


def ascend(objective: Callable[[Tensor], Tensor], start: Tensor, ball: Ball, *, steps: int, step_size: float) -> Tensor:
    """Run projected gradient ascent on `objective`, a sum over samples; each step is projected to ball and box.

    `start` and the result are `(B, C, H, W)`. A step takes one forward and one backward pass, with respect to the
    images only.
    """
    x = start.detach()
    for _ in range(steps):
        with torch.enable_grad():
            leaf = x.requires_grad_(True)
            (gradient,) = torch.autograd.grad(objective(leaf), leaf)
        x = ball.project(leaf.detach() + step_size * direction(gradient, ball.norm))
    return x
