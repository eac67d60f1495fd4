"""What gradient attacks share: the walk uphill inside a ball, and repeated attempts on the samples that still hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.base.objectives import OBJECTIVES, TARGETED_OBJECTIVES, Objective, likeliest_rivals


@dataclass(frozen=True)
class Attempt:
    """One run of an attack: on `rows` (int64 `(A,)`) of its samples, towards `targets` (int64 `(A,)`) where it has any.

    `stream` names the draws of this run, and of no other; `last` says that nothing follows that would gain from
    knowing who still holds.
    """

    rows: Tensor
    targets: Tensor | None
    stream: str
    last: bool

    def objective(self, loss: str) -> Objective:
        """Choose the loss of this name, towards the targets or away from the label."""
        return (OBJECTIVES if self.targets is None else TARGETED_OBJECTIVES)[loss]


Run = Callable[[Attempt], tuple[Tensor, Tensor]]
"""Gives the points `(A, C, H, W)` of an attempt, and which of its rows still hold: int64, positions among the A."""


def on_survivors(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    run: Run,
    *,
    restarts: int = 1,
    targets: int = 0,
    stream: str = "start",
    last: bool = True,
) -> tuple[Tensor, Tensor]:
    """Repeat a run on the samples that still hold, `restarts` times; with `targets`, each time against each rival.

    Rivals are the `targets` likeliest classes other than the label on the clean image x `(B, C, H, W)` (Gowal et al.
    2019, arXiv:1910.09338). `last` says that no other attack follows. Returns the points `(B, C, H, W)`, of the last
    run where none succeeded, and the rows that still hold, int64 `(A,)`.
    """
    found, left = x.clone(), torch.arange(len(x), device=x.device)
    outer = model.current_rows
    rivals = likeliest_rivals(model.logits(x), y, targets) if targets else None
    numbers = range(1 if rivals is None else rivals.shape[1])
    for restart in range(restarts):
        for number in numbers:
            final = last and restart == restarts - 1 and number == numbers[-1]
            if rivals is None:
                attempt = Attempt(left, None, f"{stream}:{restart}", final)
            else:
                attempt = Attempt(left, rivals[left, number], f"{stream}:{restart}:target:{number}", final)
            with model.rows(outer[left]):
                found[left], held = run(attempt)
            left = left[held]
            if not len(left):
                return found, left
    return found, left


def ascend(
    model: AttackModel,
    ball: Ball,
    start: Tensor,
    y: Tensor,
    attempt: Attempt,
    *,
    loss: str,
    steps: int,
    step_size: float,
    decay: float | None = None,
    leap: bool = False,
) -> tuple[Tensor, Tensor]:
    """Step from `start` until a sample is confirmed fooled or `steps` are done; with `decay`, along a momentum.

    The forward pass that the gradient at x_t needs is also the check of x_t, so a step costs one forward and one
    backward on the samples that still hold. With `leap`, the first gradient is also followed to the edge of the ball:
    who falls there is out for one forward more; the walk of the others is as without. The last point is judged by
    whoever gets it, unless another attempt follows: then here. `start` and `y` are those of the attempt's rows. Returns
    what a `Run` does.
    """
    objective, outer = attempt.objective(loss), model.current_rows
    walk = _Walk(ball, start, y, attempt.targets, torch.zeros_like(start) if decay is not None else None)
    for step in range(steps):
        with model.rows(outer[walk.rows]):
            slope = model.gradients(walk.x, walk.y, objective, targets=walk.targets)
            gradient = walk.drop(model.fooled(slope.logits, walk.x, walk.y), slope.gradient)
        if leap and step == 0 and len(walk.rows) and not model.transfers:
            far = walk.ball.leap(gradient)
            with model.rows(outer[walk.rows]):
                fooled = model.fooled(model.logits(far), far, walk.y)
            gradient = walk.drop(fooled, gradient, at=far)
        if not len(walk.rows):
            return walk.found, walk.rows
        if decay is not None:
            gradient = walk.gather(gradient, decay)
        walk.x = walk.ball.project(walk.x + step_size * walk.ball.direction(walk.x, gradient))
    if not (attempt.last or model.transfers):
        with model.rows(outer[walk.rows]):
            walk.drop(model.confirm(walk.x, walk.y), walk.x)
    walk.found[walk.rows] = walk.x
    return walk.found, walk.rows


class _Walk:
    """Where the samples that still hold have come to; `rows`, int64 `(A,)`, says which of all they are."""

    def __init__(self, ball: Ball, x: Tensor, y: Tensor, targets: Tensor | None, momentum: Tensor | None) -> None:
        self.ball, self.x, self.y, self.targets, self.momentum = ball, x, y, targets, momentum
        self.found = x.clone()
        self.rows = torch.arange(len(x), device=x.device)

    def drop(self, fooled: Tensor | None, gradient: Tensor, *, at: Tensor | None = None) -> Tensor:
        """Let go of the samples fooled, bool `(A,)`, where they are or `at` points; give the others' gradients."""
        if fooled is None:
            return gradient
        broken, kept = fooled.nonzero()[:, 0], (~fooled).nonzero()[:, 0]
        self.found[self.rows[broken]] = (self.x if at is None else at)[broken]
        self.rows, self.x, self.y, self.ball = self.rows[kept], self.x[kept], self.y[kept], self.ball.select(kept)
        self.targets = None if self.targets is None else self.targets[kept]
        self.momentum = None if self.momentum is None else self.momentum[kept]
        return gradient[kept]

    def gather(self, gradient: Tensor, decay: float) -> Tensor:
        """Add a gradient, scaled to size one in L1, to the momentum, and give that."""
        previous = torch.zeros_like(gradient) if self.momentum is None else self.momentum
        self.momentum = decay * previous + _of_size_one(gradient)
        return self.momentum


def from_random_starts(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    steps: int,
    step_size: float | None,
    loss: str,
) -> Run:
    """Make the run that PGD repeats: a random point of the ball, then `steps` steps, of 2.5 epsilon / steps if None.

    The first gradient is also followed to the ball's edge (see `ascend`), where most samples of a large ball fall.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        ball = Ball(x[one.rows], epsilon, norm)
        start = ball.random_point(keys[one.rows], stream=one.stream)
        return ascend(model, ball, start, y[one.rows], one, loss=loss, steps=steps, step_size=size, leap=True)

    return run


def _of_size_one(gradient: Tensor) -> Tensor:
    size = gradient.flatten(1).abs()
    # Two divisions: the sum of tiny entries may underflow, the largest of them does not.
    largest = size.amax(1, keepdim=True)
    scaled = gradient.flatten(1) / torch.where(largest > 0, largest, 1.0)
    return (scaled / scaled.abs().sum(1, keepdim=True).clamp(min=1.0)).reshape(gradient.shape)
