"""PGD, and FGSM, BIM and MI-FGSM, which share its code: gradient ascent in a ball with a fixed step size.

`targets: N` attacks each sample towards each of its N likeliest other classes instead of away from its label. Any class
other than the label is a success in both cases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball
from gauntlet.registry import ATTACKS, AttackLosses, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.ascent import Attempt, attack_with_restarts, gradient_ascent, pgd_run
from gauntlet.robustness.attacks.base.model import AttackModel


@ATTACKS.register(
    "fgsm",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    steps=1,
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
    loss: AttackLosses = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Take one step of size `epsilon` along the gradient.

    L-infinity: along its sign. L2: along its direction. L1: the entries with the largest gradient move to the edge of
    the box, one after the other, until `epsilon` is used up. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result
    has the shape of x.
    """

    def run(attempt: Attempt) -> tuple[Tensor, Tensor]:
        x_clean, labels = x[attempt.samples], y[attempt.samples]
        gradient = model.gradients(x_clean, labels, attempt.loss, targets=attempt.targets).gradient
        x_adv = Ball(x_clean, epsilon, norm).full_step(gradient)
        if attempt.last or model.transfers:
            return x_adv, torch.arange(len(x_adv), device=x.device)
        return x_adv, (~model.confirm(x_adv, labels, beyond_chance=True)).nonzero()[:, 0]

    return attack_with_restarts(model, x, y, run, norm=norm, loss=loss, targets=targets)[0]


@ATTACKS.register(
    "bim",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    downward=("linf", "l2", "l1"),
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
    loss: AttackLosses = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Take small gradient steps from the clean image, each projected onto the ball.

    `step_size` defaults to 2 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape
    of x.
    """
    size = 2 * epsilon / steps if step_size is None else step_size

    def run(attempt: Attempt) -> tuple[Tensor, Tensor]:
        start, labels = x[attempt.samples], y[attempt.samples]
        ball = Ball(start, epsilon, norm)
        return gradient_ascent(model, ball, start, labels, attempt, steps=steps, step_size=size)

    return attack_with_restarts(model, x, y, run, norm=norm, loss=loss, targets=targets)[0]


@ATTACKS.register(
    "mi_fgsm",
    kind="bounded",
    norms=("linf", "l2", "l1"),
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
    loss: AttackLosses = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Take small steps from the clean image along a momentum g := decay g + gradient / ||gradient||_1.

    `step_size` defaults to epsilon / steps. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape of
    x.
    """
    size = epsilon / steps if step_size is None else step_size

    def run(attempt: Attempt) -> tuple[Tensor, Tensor]:
        start, labels = x[attempt.samples], y[attempt.samples]
        ball = Ball(start, epsilon, norm)
        return gradient_ascent(model, ball, start, labels, attempt, steps=steps, step_size=size, decay=decay)

    return attack_with_restarts(model, x, y, run, norm=norm, loss=loss, targets=targets)[0]


@ATTACKS.register(
    "pgd",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    downward=("linf", "l2", "l1"),
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
    loss: AttackLosses = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Take gradient steps from a random point of the ball, `restarts` times on the samples that are still robust.

    Before the first step, the point where the first gradient meets the boundary of the ball is tried too; samples that
    are adversarial there stop. `step_size` defaults to 2.5 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y and keys
    int64 `(B,)`; the result has the shape of x.
    """
    run = pgd_run(model, x, y, norm=norm, epsilon=epsilon, keys=keys, steps=steps, step_size=step_size)
    return attack_with_restarts(model, x, y, run, norm=norm, loss=loss, restarts=restarts, targets=targets)[0]
