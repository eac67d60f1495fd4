"""SPSA: gradient descent on the margin with gradients estimated from scores alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball
from gauntlet.core.randomness import integers
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import logit_margin

_BITS = 24
_DECAY_1, _DECAY_2, _STABLE = 0.9, 0.999, 1e-8  # Adam, Kingma and Ba 2015


@ATTACKS.register(
    "spsa",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="scores",
    batching="attack",
    search="estimated",
    reach=("steps", "step_size"),
    source="Uesato et al. 2018, arXiv:1802.05666",
)
def spsa(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    steps: PositiveInt = 50,
    step_size: PositiveFloat = 0.01,
    pairs: PositiveInt = 64,
    probe: PositiveFloat = 0.01,
) -> Tensor:
    """Minimise the margin z_y - max_{i != y} z_i by Adam on simultaneous-perturbation gradient estimates.

    Each of `steps` estimates the gradient from `pairs` two-sided differences at x +- `probe` * v, v uniform in
    {-1, +1}^D, then moves by Adam with learning rate `step_size` and projects to ball and box. A sample stops when it
    is confirmed fooled. Cost per sample: 2 * pairs + 1 forwards a step, no backward. x is `(B, C, H, W)` in [0, 1], y
    and keys int64 `(B,)`; the result has the shape of x.

    Raises InputError when steps * step_size < epsilon in L-infinity: the walk could not reach the ball's edge.
    """
    if norm == "linf" and steps * step_size < epsilon:
        raise InputError(
            f"spsa cannot reach epsilon {epsilon:g} in {steps} steps of {step_size:g}",
            remedy="raise steps or step_size until steps * step_size >= epsilon",
        )
    ball = Ball(x, epsilon, norm)
    point = ball.random_point(keys, stream="start")
    found = point.clone()
    rows = torch.arange(len(x), device=x.device)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    outer = model.current_rows
    for step in range(steps):
        with model.rows(outer[rows]):
            fooled = model.fooled(model.logits(point), point, y)
        if fooled is not None:
            found[rows[fooled]] = point[fooled]
            kept = (~fooled).nonzero()[:, 0]
            rows, point, y, keys, ball = rows[kept], point[kept], y[kept], keys[kept], ball.select(kept)
            first, second = first[kept], second[kept]
            if not len(rows):
                return found
        slope = _estimate(model, point, y, keys, rows=outer[rows], step=step, pairs=pairs, probe=probe)
        first = _DECAY_1 * first + (1 - _DECAY_1) * slope
        second = _DECAY_2 * second + (1 - _DECAY_2) * slope.square()
        mean, scale = first / (1 - _DECAY_1 ** (step + 1)), second / (1 - _DECAY_2 ** (step + 1))
        point = ball.project(point - step_size * mean / (scale.sqrt() + _STABLE))
    found[rows] = point
    return found


def _estimate(
    model: AttackModel, x: Tensor, y: Tensor, keys: Tensor, *, rows: Tensor, step: int, pairs: int, probe: float
) -> Tensor:
    """Estimate the gradient of the margin at x `(A, C, H, W)`, a few samples at a time to bound memory."""
    slopes = []
    together = max(1, model.memory.current // (2 * pairs))
    for start in range(0, len(x), together):
        part = slice(start, start + together)
        images, labels = x[part], y[part]
        signs = _signs(keys[part], (pairs, *x.shape[1:]), stream=f"probe:{step}", dtype=x.dtype)  # (S, P, C, H, W)
        points = torch.stack([images[:, None] + probe * signs, images[:, None] - probe * signs], dim=1)
        with model.rows(rows[part].repeat_interleave(2 * pairs)):
            logits = model.logits(points.flatten(0, 2))  # (S * 2 * P, K)
        margins = logit_margin(logits, labels.repeat_interleave(2 * pairs)).reshape(len(images), 2, pairs)
        slope = (margins[:, 0] - margins[:, 1]) / (2 * probe)  # (S, P)
        slopes.append(torch.einsum("sp,sp...->s...", slope, signs) / pairs)
    return torch.cat(slopes)


def _signs(keys: Tensor, shape: tuple[int, ...], *, stream: str, dtype: torch.dtype) -> Tensor:
    """Draw `(S, *shape)` signs, each -1 or +1, many from one hash."""
    size = math.prod(shape)
    words = integers(keys, (-(-size // _BITS),), 1 << _BITS, stream=stream).to(torch.int32)
    places = torch.arange(_BITS, dtype=torch.int32, device=keys.device)
    bits = (words[:, :, None] >> places & 1).flatten(1)[:, :size]
    return (2 * bits - 1).to(dtype).reshape(len(keys), *shape)
