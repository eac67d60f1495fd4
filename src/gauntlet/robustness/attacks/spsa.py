"""SPSA: Adam on the margin, with gradients estimated from scores by simultaneous perturbation.

Uesato et al. 2018, arXiv:1802.05666, in its symbols delta and v.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.core.budgets import reaches
from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball
from gauntlet.core.randomness import integers
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import logit_margin

_BITS = 24
"""Signs per random integer."""
_BETA_1, _BETA_2, _STABLE = 0.9, 0.999, 1e-8  # Adam: Kingma and Ba 2015, arXiv:1412.6980


@ATTACKS.register(
    "spsa",
    kind="bounded",
    norms=("linf", "l2"),
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
    delta: PositiveFloat = 0.01,
) -> Tensor:
    """Minimize the margin z_y - max_{i != y} z_i by Adam on simultaneous-perturbation gradient estimates.

    Each of `steps` estimates the gradient from `pairs` two-sided differences at x +- `delta` * v, v uniform in {-1,
    +1}^D, then moves by Adam with learning rate `step_size` and projects to ball and box. A sample stops once it is
    confirmed adversarial. Cost per sample: 2 * pairs + 1 forwards a step, no backward. x is `(B, C, H, W)` in [0, 1], y
    and keys int64 `(B,)`; the result has the shape of x.

    Raises InputError when steps * step_size < epsilon in L-infinity: the edge of the ball would be out of reach.
    """
    if norm == "linf" and not reaches(steps, step_size, epsilon):
        raise InputError(
            f"spsa cannot reach epsilon {epsilon:g} in {steps} steps of {step_size:g}",
            remedy="raise steps or step_size until steps * step_size >= epsilon",
        )
    ball = Ball(x, epsilon, norm)
    points = ball.random_point(keys, stream="start")
    x_adv = points.clone()
    active = torch.arange(len(x), device=x.device)
    moment_1, moment_2 = torch.zeros_like(x), torch.zeros_like(x)
    for step in range(steps):
        with model.subset(active):
            adversarial = model.is_adversarial(model.logits(points), points, y)
        if adversarial is not None:
            x_adv[active[adversarial]] = points[adversarial]
            rest = (~adversarial).nonzero()[:, 0]
            active, points, y, keys, ball = active[rest], points[rest], y[rest], keys[rest], ball.select(rest)
            moment_1, moment_2 = moment_1[rest], moment_2[rest]
            if not len(active):
                return x_adv
        with model.subset(active):
            gradient = _estimate_gradient(model, points, y, keys, step=step, pairs=pairs, delta=delta)
        moment_1 = _BETA_1 * moment_1 + (1 - _BETA_1) * gradient
        moment_2 = _BETA_2 * moment_2 + (1 - _BETA_2) * gradient.square()
        unbiased_1, unbiased_2 = moment_1 / (1 - _BETA_1 ** (step + 1)), moment_2 / (1 - _BETA_2 ** (step + 1))
        points = ball.project(points - step_size * unbiased_1 / (unbiased_2.sqrt() + _STABLE))
    x_adv[active] = points
    return x_adv


def _estimate_gradient(
    model: AttackModel, x: Tensor, y: Tensor, keys: Tensor, *, step: int, pairs: int, delta: float
) -> Tensor:
    """Estimate the gradient of the margin at x `(A, C, H, W)`, a few samples at a time to bound memory."""
    gradients = []
    chunk = max(1, model.memory.current // (2 * pairs))
    for start in range(0, len(x), chunk):
        rows = torch.arange(start, min(start + chunk, len(x)), device=x.device)
        images = x[rows]
        v = _signs(keys[rows], (pairs, *x.shape[1:]), stream=f"probe:{step}", dtype=x.dtype)  # (S, P, C, H, W)
        points = torch.stack([images[:, None] + delta * v, images[:, None] - delta * v], dim=1)
        with model.subset(rows.repeat_interleave(2 * pairs)):
            logits = model.logits(points.flatten(0, 2))  # (S * 2 * P, K)
        margin = logit_margin(logits, y[rows].repeat_interleave(2 * pairs)).reshape(len(images), 2, pairs)
        difference = (margin[:, 0] - margin[:, 1]) / (2 * delta)  # (S, P)
        gradients.append(torch.einsum("sp,sp...->s...", difference, v) / pairs)
    return torch.cat(gradients)


def _signs(keys: Tensor, shape: tuple[int, ...], *, stream: str, dtype: torch.dtype) -> Tensor:
    """Sample `(S, *shape)` signs, each -1 or +1, many from one hash."""
    count = math.prod(shape)
    words = integers(keys, (-(-count // _BITS),), 1 << _BITS, stream=stream).to(torch.int32)
    positions = torch.arange(_BITS, dtype=torch.int32, device=keys.device)
    bits = (words[:, :, None] >> positions & 1).flatten(1)[:, :count]
    return (2 * bits - 1).to(dtype).reshape(len(keys), *shape)
