"""Gradient attacks of a fixed step size inside a ball: FGSM, BIM, MI-FGSM and PGD.

All take the same losses. `targets: N` attacks each sample towards each of its N likeliest other classes instead of
away from its label; success is any other class than the label either way.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball
from gauntlet.registry import ATTACKS, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.ascent import Attempt, ascend, from_random_starts, on_survivors
from gauntlet.robustness.attacks.base.model import AttackModel


@ATTACKS.register(
    "fgsm",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    steps=1,
    batching="attack",
    directions_only=True,
    source="Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572",
)
def fgsm(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Take one step of size `epsilon` along the gradient.

    L-infinity: along its sign; L2: along its direction; L1: the largest entries to the box's edge until `epsilon` is
    spent. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape of x.
    """

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        labels = y[one.rows]
        gradient = model.gradients(x[one.rows], labels, one.objective(loss), targets=one.targets).gradient
        points = Ball(x[one.rows], epsilon, norm).leap(gradient)
        if one.last or model.transfers:
            return points, torch.arange(len(points), device=x.device)
        return points, (~model.confirm(points, labels)).nonzero()[:, 0]

    return on_survivors(model, x, y, run, targets=targets)[0]


@ATTACKS.register(
    "bim",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    directions_only=True,
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
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Repeat small gradient steps from the image itself, projected to the ball.

    `step_size` defaults to 2 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape
    of x.
    """
    size = 2 * epsilon / steps if step_size is None else step_size

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        start = x[one.rows]
        ball = Ball(start, epsilon, norm)
        return ascend(model, ball, start, y[one.rows], one, loss=loss, steps=steps, step_size=size)

    return on_survivors(model, x, y, run, targets=targets)[0]


@ATTACKS.register(
    "mi_fgsm",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    directions_only=True,
    source="Dong et al. 2018, arXiv:1710.06081",
)
def mi_fgsm(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    steps: PositiveInt = 10,
    step_size: PositiveFloat | None = None,
    decay: NonNegativeFloat = 1.0,
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Repeat small steps from the image itself along a momentum g := decay g + gradient / its L1 size.

    `step_size` defaults to epsilon / steps. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape of
    x.
    """
    size = epsilon / steps if step_size is None else step_size

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        start = x[one.rows]
        ball = Ball(start, epsilon, norm)
        return ascend(model, ball, start, y[one.rows], one, loss=loss, steps=steps, step_size=size, decay=decay)

    return on_survivors(model, x, y, run, targets=targets)[0]


@ATTACKS.register(
    "pgd",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    directions_only=True,
    source="Madry et al. 2018, arXiv:1706.06083; L1: Tramer and Boneh 2019, arXiv:1904.13000",
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
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Repeat gradient steps from a random point of the ball, anew for samples that still hold, `restarts` times.

    From each start the first gradient is also followed to the ball's edge at once: what falls there is done with.
    `step_size` defaults to 2.5 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has
    the shape of x.
    """
    run = from_random_starts(
        model, x, y, norm=norm, epsilon=epsilon, keys=keys, steps=steps, step_size=step_size, loss=loss
    )
    return on_survivors(model, x, y, run, restarts=restarts, targets=targets)[0]
