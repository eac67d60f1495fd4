"""Auto-PGD: gradient ascent with momentum that chooses its own step sizes; in L1, its own sparsity too.

Croce and Hein 2020, arXiv:2003.01690; L1: Croce and Hein 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction, per_sample, sparse_direction
from gauntlet.core.randomness import normal, uniform
from gauntlet.registry import ATTACKS, NonNegativeInt, PositiveInt
from gauntlet.robustness.attacks.base.ascent import Attempt, on_survivors
from gauntlet.robustness.attacks.base.model import AttackModel

_MOMENTUM = 0.75  # alpha, the weight of the new step
_ENOUGH = 0.75  # rho, the share of steps that must raise the loss
_FIRST_WINDOW, _SHRINKING, _LAST_WINDOW = 0.22, 0.03, 0.06  # of all steps
_L1_RADII, _L1_SHARES = (3, 2, 1), (0.3, 0.3, 0.4)
_L1_WINDOW, _L1_SPARSER, _L1_SLOWER, _L1_SLOWEST = 0.04, 1.5, 1.5, 10.0


@ATTACKS.register(
    "apgd",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Croce and Hein 2020, arXiv:2003.01690; L1: 2021, arXiv:2103.01208",
)
def apgd(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    loss: Literal["cross_entropy", "dlr"] = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Ascend with momentum; where progress ends, halve the step and go back to the best point.

    `targets: 9` with `loss: dlr` is APGD-T. In L1 the steps are sparse, and the first 30 and the next 30 per cent of
    them go in balls of 3 and 2 epsilon. A sample costs `steps` + 1 forwards and backwards an attempt (in L1 + 3), less
    once it is fooled. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x: where no
    attempt succeeds, the point of the last one's highest loss.

    Raises InputError when the model has fewer classes than the loss needs: 3 for `dlr`, 4 for `dlr` with targets.
    """

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        origin, labels = x[one.rows], y[one.rows]
        point = _start(origin, keys[one.rows], norm, epsilon, stream=one.stream)
        held = torch.arange(len(origin), device=x.device)
        for radius, count in _stages(norm, steps):
            ball = Ball(origin, radius * epsilon, norm)
            point, held = _climb(
                model, ball, ball.project(point), labels, one, loss=loss, steps=count, leave=radius == 1
            )
        return point, held

    return on_survivors(model, x, y, run, restarts=restarts, targets=targets)[0]


def _stages(norm: str, steps: int) -> list[tuple[int, int]]:
    """Give radii in epsilons, and the steps in each."""
    if norm != "l1":
        return [(1, steps)]
    early = [int(share * steps) for share in _L1_SHARES[:-1]]
    return [stage for stage in zip(_L1_RADII, [*early, steps - sum(early)], strict=True) if stage[1]]


def _start(origin: Tensor, keys: Tensor, norm: str, epsilon: float, *, stream: str) -> Tensor:
    """Draw starting points: on the surface of the ball; in L1 Gaussian noise, which the first ball projects."""
    shape, dtype = origin.shape[1:], origin.dtype
    if norm == "linf":
        noise = uniform(keys, shape, stream=stream, low=-1.0, high=1.0, dtype=dtype)
        return origin + epsilon * noise / per_sample(noise.flatten(1).abs().amax(1), noise)
    noise = normal(keys, shape, stream=stream, dtype=dtype)
    return origin + (noise if norm == "l1" else epsilon * direction(noise, norm))


@dataclass
class _PerSample:
    """Tensors whose first dimension is the samples, all cut together."""

    def select(self, rows: Tensor) -> Self:
        """Keep some samples: `rows` is int64 `(A,)`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return type(self)(
            **{name: value[rows] if isinstance(value, Tensor) else value for name, value in values.items()}
        )


@dataclass
class _Walk(_PerSample):
    """Where each sample is, was, and was best."""

    point: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor


class _Pace(Protocol):
    """How long steps are, and when a sample goes back to its best point."""

    def step(self, ball: Ball, walk: _Walk, *, first: bool) -> Tensor: ...

    def look(self, ball: Ball, walk: _Walk, rose: Tensor) -> Tensor | None:
        """Take note of a step; at a checkpoint say who goes back to the best point: bool `(A,)`."""

    def select(self, rows: Tensor) -> Self: ...


@dataclass
class _Halving(_PerSample):
    """Step sizes that begin at 2 epsilon and halve where the loss rose too seldom or its best did not improve."""

    size: Tensor
    halved: Tensor
    best_before: Tensor
    rises: Tensor
    steps: int
    window: int
    age: int = 0

    @classmethod
    def begin(cls, ball: Ball, best_loss: Tensor, steps: int) -> Self:
        size = torch.full_like(best_loss, 2 * ball.epsilon, dtype=ball.origin.dtype)
        halved = torch.ones_like(
            best_loss, dtype=torch.bool
        )  # not yet: the second condition looks back two checkpoints
        return cls(size, halved, best_loss, torch.zeros_like(best_loss), steps, _share(_FIRST_WINDOW, steps))

    def step(self, ball: Ball, walk: _Walk, *, first: bool) -> Tensor:
        straight = ball.project(walk.point + per_sample(self.size, walk.point) * direction(walk.gradient, ball.norm))
        if first:
            return straight
        new, old = straight - walk.point, walk.point - walk.previous
        return ball.project(walk.point + _MOMENTUM * new + (1 - _MOMENTUM) * old)

    def look(self, ball: Ball, walk: _Walk, rose: Tensor) -> Tensor | None:
        self.rises = self.rises + rose
        self.age += 1
        if self.age < self.window:
            return None
        seldom = self.rises <= _ENOUGH * self.window
        stuck = seldom | (~self.halved & (walk.best_loss <= self.best_before))
        self.size = torch.where(stuck, self.size / 2, self.size)
        self.halved, self.best_before, self.rises = stuck, walk.best_loss, torch.zeros_like(self.rises)
        self.window = max(self.window - _share(_SHRINKING, self.steps), _share(_LAST_WINDOW, self.steps))
        self.age = 0
        return stuck


@dataclass
class _Sparse(_PerSample):
    """Sparse steps in L1: as many entries as the best point has changed, over 1.5; slower while that is steady."""

    size: Tensor
    entries: Tensor
    changed: Tensor
    window: int
    age: int = 0

    @classmethod
    def begin(cls, ball: Ball, start: Tensor, steps: int) -> Self:
        changed = _changed(ball, start)
        size = torch.full_like(changed, ball.epsilon, dtype=start.dtype)
        return cls(size, _fewer(changed), changed, _share(_L1_WINDOW, steps))

    def step(self, ball: Ball, walk: _Walk, *, first: bool) -> Tensor:
        way = sparse_direction(walk.gradient, self.entries)
        return ball.project(walk.point + per_sample(self.size, way) * way)

    def look(self, ball: Ball, walk: _Walk, rose: Tensor) -> Tensor | None:
        self.age += 1
        if self.age < self.window:
            return None
        changed = _changed(ball, walk.best)
        sparser = changed < 0.95 * self.changed
        slower = (self.size / _L1_SLOWER).clamp(min=ball.epsilon / _L1_SLOWEST)
        self.size = torch.where(sparser, ball.epsilon, slower)
        self.entries, self.changed, self.age = _fewer(changed), changed, 0
        return sparser


def _share(share: float, steps: int) -> int:
    return max(int(share * steps), 1)


def _changed(ball: Ball, point: Tensor) -> Tensor:
    return (point != ball.origin).flatten(1).sum(1)


def _fewer(changed: Tensor) -> Tensor:
    return (changed / _L1_SPARSER).ceil().clamp_(min=1).to(torch.int64)


def _climb(
    model: AttackModel, ball: Ball, start: Tensor, y: Tensor, attempt: Attempt, *, loss: str, steps: int, leave: bool
) -> tuple[Tensor, Tensor]:
    """Walk in one ball; samples that are confirmed fooled leave it if `leave`, the others end at their best point.

    Losses are compared in float64: in float32 the cross-entropy of a certain prediction is 0, and none is better.
    """
    objective, targets = attempt.objective(loss), attempt.targets
    found = start.clone()
    rows = torch.arange(len(start), device=start.device)
    outer = model.current_rows
    point = start
    for step in range(steps + 1):
        with model.rows(outer[rows]):
            slope = model.gradients(point, y, objective, targets=targets)
            fooled = model.fooled(slope.logits, point, y) if leave else None
        value = objective.value(slope.outputs.double(), y, y if targets is None else targets)
        if step == 0:
            walk = _Walk(point, point, slope.gradient, value, point, slope.gradient, value)
            pace: _Pace = _Sparse.begin(ball, start, steps) if ball.norm == "l1" else _Halving.begin(ball, value, steps)
            back = None
        else:
            rose = value > walk.loss
            walk.point, walk.previous, walk.gradient, walk.loss = point, walk.point, slope.gradient, value
            _keep_best(walk)
            back = pace.look(ball, walk, rose)
        if fooled is not None:
            broken, kept = fooled.nonzero()[:, 0], (~fooled).nonzero()[:, 0]
            found[rows[broken]] = point[broken]
            rows, y, ball, walk, pace = rows[kept], y[kept], ball.select(kept), walk.select(kept), pace.select(kept)
            targets = None if targets is None else targets[kept]
            back = None if back is None else back[kept]
            if not len(rows):
                return found, rows
        if step == steps:
            break
        if back is not None:
            # The loss stays that of the point just left, so that the next rise is measured between iterates.
            walk.point = torch.where(per_sample(back, walk.point), walk.best, walk.point)
            walk.gradient = torch.where(per_sample(back, walk.point), walk.best_gradient, walk.gradient)
        point = pace.step(ball, walk, first=step == 0)
    found[rows] = walk.best
    return found, rows


def _keep_best(walk: _Walk) -> None:
    better = walk.loss > walk.best_loss
    wide = per_sample(better, walk.point)
    walk.best = torch.where(wide, walk.point, walk.best)
    walk.best_gradient = torch.where(wide, walk.gradient, walk.best_gradient)
    walk.best_loss = torch.where(better, walk.loss, walk.best_loss)
