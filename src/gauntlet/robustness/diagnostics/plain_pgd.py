"""Plain PGD as in other libraries, with every step recorded: cross-entropy, ordinary autograd, last iterate.

Gauntlet's own attacks rescale the loss so that it cannot vanish, stop at success, and return the best point found.
Masked gradients show where none of this is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.core.geometry import Ball, per_sample
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.judge import logit_margin

View = Callable[[Tensor], Tensor]

_SMALLEST_NORM = 1e-12
_MAX_OUTPUTS = 32


@dataclass(frozen=True)
class Trace:
    """Record of one attack on B samples over T steps.

    `margins` and `fooled` are `(T + 1, B)`, from the start to the last iterate: the margin of the label over the other
    classes, and whether the model misclassifies. At the last iterate, `view_predictions` `(B,)` are the classes by the
    view that gradients are taken from, `predictions` `(B,)` those by the model.
    """

    margins: Tensor
    fooled: Tensor
    view_predictions: Tensor
    predictions: Tensor


def plain_gradients(view: View, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute scores `(B, K)` and the gradient of their cross-entropy with respect to x, by autograd.

    The gradient is zero where none reaches the input.
    """
    return _gradients(view, x, lambda scores: functional.cross_entropy(scores, y, reduction="sum"))


def rescaled_gradients(view: View, x: Tensor, y: Tensor) -> Tensor:
    """Compute the gradient of the cross-entropy, scaled per sample so that saturation cannot make it underflow."""
    derivative = UNTARGETED_LOSSES["cross_entropy"].derivative
    return _gradients(view, x, lambda scores: (derivative(scores.detach(), y, y) * scores).sum())[1]


def _gradients(view: View, x: Tensor, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        scores = view(leaf.clone())  # A view may write into its input.
        gradient = None
        if scores.requires_grad:
            (gradient,) = torch.autograd.grad(objective(scores), leaf, allow_unused=True)
    return scores.detach(), torch.zeros_like(x) if gradient is None else gradient


def saturated_outputs(view: View, x: Tensor) -> Tensor:
    """Return which outputs `(B, L)` of a view have a gradient of exactly zero with respect to x `(B, C, H, W)`.

    L is at most 32: of more outputs, 32 evenly spaced ones are checked.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        outputs = view(leaf.clone()).flatten(1)
        outputs = outputs[:, :: -(-outputs.shape[1] // _MAX_OUTPUTS)]
        if not outputs.requires_grad:
            return torch.ones_like(outputs, dtype=torch.bool)
        saturated = []
        for output in outputs.sum(0):
            (gradient,) = torch.autograd.grad(output, leaf, retain_graph=True, allow_unused=True)
            largest = torch.zeros_like(outputs[:, 0]) if gradient is None else gradient.flatten(1).abs().amax(1)
            saturated.append(largest == 0)
    return torch.stack(saturated, 1)


def plain_pgd(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    steps: int,
    keys: Tensor,
    view: View | None = None,
) -> Trace:
    """Run projected gradient descent from a random point, with steps of 2.5 epsilon / steps, to the last iterate.

    With one step it starts at x and steps by epsilon. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`. Gradients
    are taken from `view`, by default the network itself; `fooled` always refers to the network.
    Source: Madry et al. 2018, arXiv:1706.06083; Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572.
    """
    source = network if view is None else view
    ball = Ball(x, epsilon, norm)
    size = epsilon if steps == 1 else 2.5 * epsilon / steps
    point = x if steps == 1 else ball.random_point(keys, stream="probe:start")
    margins, predictions = [], []
    for step in range(steps + 1):
        scores, gradient = plain_gradients(source, point, y)
        with torch.no_grad():
            logits = scores if view is None else network(point)
        margins.append(logit_margin(logits, y))
        predictions.append(logits.argmax(1))
        if step < steps:
            point = ball.project(point + size * _direction(gradient.nan_to_num(0.0), norm))
    fooled = torch.stack(predictions) != y
    return Trace(torch.stack(margins), fooled, scores.argmax(1), predictions[-1])


def _direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    # As in other libraries, a vanishing gradient gives a vanishing step.
    length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=_SMALLEST_NORM)
    return gradient / per_sample(length, gradient)


def late_progress(margins: Tensor) -> Tensor:
    """Return by how much the smallest margin so far, rescaled to [0, 1] per sample, fell in the last quarter of steps.

    margins is `(T + 1, B)`, the result `(B,)`. Source: Pintor et al. 2022, arXiv:2106.09947, indicator "incomplete
    optimization", which measures the attacked loss over the last ten steps. Margins are measured here and below, since
    the cross-entropy of a confident network changes by orders of magnitude without any masking.
    """
    best = margins.cummin(0).values
    low, high = margins.amin(0), margins.amax(0)
    last = len(margins) - 1
    return (best[last - max(1, last // 4)] - best[last]) / torch.where(high > low, high - low, 1.0)


def margin_instability(network: nn.Module, x: Tensor, y: Tensor, points: Callable[[int], Tensor], draws: int) -> Tensor:
    """Return the mean over random points of |change of the margin| / |margin|, at most 1 each: `(B,)`.

    ``points(draw)`` returns one random neighbor of every x `(B, C, H, W)`.
    Source: Pintor et al. 2022, arXiv:2106.09947, indicator "unstable predictions".
    """
    with torch.no_grad():
        margin = logit_margin(network(x), y)
        scale = torch.where(margin == 0, 1.0, margin.abs())
        total = torch.zeros_like(margin)
        for draw in range(draws):
            total += ((logit_margin(network(points(draw)), y) - margin).abs() / scale).clamp(max=1.0)
    return total / draws
