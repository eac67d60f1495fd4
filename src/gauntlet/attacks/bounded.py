"""Gradient attacks inside a ball: FGSM, BIM and PGD, iterating only on samples that still hold."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gauntlet.attacks.geometry import Ball, direction
from gauntlet.attacks.model import AttackModel
from gauntlet.attacks.objectives import OBJECTIVES, Objective
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt


@ATTACKS.register(
    "fgsm",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572",
)
def fgsm(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    loss: Literal["cross_entropy", "margin"] = "cross_entropy",
) -> Tensor:
    """Take one step of size `epsilon` along the sign (L-infinity) or the direction (L2) of the gradient.

    x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape of x.
    """
    ball = Ball(x, epsilon, norm)
    _, gradient = model.gradients(x, y, OBJECTIVES[loss])
    return ball.project(x + epsilon * direction(gradient, norm))


@ATTACKS.register(
    "bim",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Kurakin, Goodfellow, Bengio 2017, arXiv:1607.02533",
)
def bim(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    steps: PositiveInt = 10,
    step_size: PositiveFloat | None = None,
    loss: Literal["cross_entropy", "margin"] = "cross_entropy",
) -> Tensor:
    """Repeat small gradient steps from the image itself, projected to the ball.

    `step_size` defaults to 2 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape
    of x.
    """
    ball = Ball(x, epsilon, norm)
    size = 2 * epsilon / steps if step_size is None else step_size
    found, _ = _ascend(model, ball, x, y, steps=steps, step_size=size, objective=OBJECTIVES[loss], check_last=False)
    return found


@ATTACKS.register(
    "pgd",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Madry et al. 2018, arXiv:1706.06083",
)
def pgd(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    steps: PositiveInt = 40,
    step_size: PositiveFloat | None = None,
    restarts: PositiveInt = 1,
    loss: Literal["cross_entropy", "margin"] = "cross_entropy",
) -> Tensor:
    """Repeat gradient steps from a random point of the ball, anew for samples that still hold, `restarts` times.

    `step_size` defaults to 2.5 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has
    the shape of x.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    found = x.clone()
    left = torch.arange(len(x), device=x.device)
    for restart in range(restarts):
        ball = Ball(x[left], epsilon, norm)
        start = ball.random_point(keys[left], stream=f"start:{restart}")
        last = restart == restarts - 1
        with model.rows(left):
            found[left], held = _ascend(
                model,
                ball,
                start,
                y[left],
                steps=steps,
                step_size=size,
                objective=OBJECTIVES[loss],
                check_last=not last,
            )
        left = left[held]
        if not len(left):
            break
    return found


def _ascend(
    model: AttackModel,
    ball: Ball,
    start: Tensor,
    y: Tensor,
    *,
    steps: int,
    step_size: float,
    objective: Objective,
    check_last: bool,
) -> tuple[Tensor, Tensor]:
    """Step from `start` until a sample is confirmed fooled or `steps` are done.

    The forward pass that the gradient at x_t needs is also the check of x_t, so a step costs one forward and one
    backward on the samples that still hold. The last point is judged by whoever gets it; with `check_last`, here.
    Returns the points `(B, ...)` and the rows, int64 `(A,)`, that still hold.
    """
    found = start.clone()
    rows = torch.arange(len(start), device=start.device)
    x = start
    outer = model.current_rows
    for step in range(steps + check_last):
        final = step == steps
        with model.rows(outer[rows]):
            if final:
                fooled: Tensor | None = model.confirm(x, y)
            else:
                logits, gradient = model.gradients(x, y, objective)
                fooled = model.fooled(logits, x, y)
        if fooled is not None:
            broken, kept = fooled.nonzero()[:, 0], (~fooled).nonzero()[:, 0]
            found[rows[broken]] = x[broken]
            rows, x, y, ball = rows[kept], x[kept], y[kept], ball.select(kept)
            if not final:
                gradient = gradient[kept]
            if not len(rows):
                return found, rows
        if not final:
            x = ball.project(x + step_size * direction(gradient, ball.norm))
    found[rows] = x
    return found, rows
