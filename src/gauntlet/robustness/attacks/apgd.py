"""Auto-PGD: gradient ascent with momentum and adaptive step sizes; in L1, with adaptive sparsity too.

Croce and Hein 2020, arXiv:2003.01690, Algorithm 1, in its symbols; L1: Croce and Hein 2021, arXiv:2103.01208.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol, Self

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction, per_sample, sparse_direction
from gauntlet.core.randomness import normal, uniform
from gauntlet.registry import ATTACKS, AttackLosses, NonNegativeInt, PositiveInt
from gauntlet.robustness.attacks.base.ascent import ActiveSet, Attempt, attack_with_restarts
from gauntlet.robustness.attacks.base.model import AttackModel

_ALPHA = 0.75  # weight of the step z - x against the momentum
_RHO = 0.75  # condition 1: share of steps that must increase the loss
# Shares of all steps between checkpoints: p_1, then p_{j+1} - p_j, smaller each time, down to the minimum.
_FIRST_WINDOW, _WINDOW_DECREASE, _MIN_WINDOW = 0.22, 0.03, 0.06
_L1_RADII, _L1_SHARES = (3, 2, 1), (0.3, 0.3, 0.4)
_L1_WINDOW, _L1_SPARSITY_FACTOR, _L1_ETA_FACTOR, _L1_MAX_REDUCTION = 0.04, 1.5, 1.5, 10.0


@ATTACKS.register(
    "apgd",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    downward=("linf", "l2"),
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
    loss: AttackLosses = "cross_entropy",
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Ascend with momentum; at checkpoints without progress, halve the step size and restart from the best point.

    `loss: dlr` with `targets: 9` is APGD-T. In L1 steps are sparse, and the first 30 and the next 30 per cent of them
    use balls of 3 and 2 epsilon. Cost per sample and attempt: `steps` + 1 forwards and backwards (L1: + 3), less once
    it is adversarial. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x: where no
    attempt succeeds, the point x_max with the highest loss of the last one.

    Raises InputError when the model has fewer classes than the loss needs: 3 for `dlr`, 4 for `dlr` with targets.
    """

    def run(attempt: Attempt) -> tuple[Tensor, Tensor]:
        x_orig, labels = x[attempt.samples], y[attempt.samples]
        point = _start(x_orig, keys[attempt.samples], norm, epsilon, stream=attempt.stream)
        robust = torch.arange(len(x_orig), device=x.device)
        for radius, radius_steps in _radii(norm, steps):
            ball = Ball(x_orig, radius * epsilon, norm)
            point, robust = _maximize(
                model, ball, ball.project(point), labels, attempt, steps=radius_steps, check=radius == 1
            )
        return point, robust

    return attack_with_restarts(model, x, y, run, norm=norm, loss=loss, restarts=restarts, targets=targets)[0]


def _radii(norm: str, steps: int) -> list[tuple[int, int]]:
    """Return the radii of the balls, in units of epsilon, and the number of steps in each."""
    if norm != "l1":
        return [(1, steps)]
    early = [int(share * steps) for share in _L1_SHARES[:-1]]
    radii = zip(_L1_RADII, [*early, steps - sum(early)], strict=True)
    return [(radius, radius_steps) for radius, radius_steps in radii if radius_steps]


def _start(x_orig: Tensor, keys: Tensor, norm: str, epsilon: float, *, stream: str) -> Tensor:
    """Sample starting points on the sphere; in L1 Gaussian noise, which the first ball projects."""
    shape, dtype = x_orig.shape[1:], x_orig.dtype
    if norm == "linf":
        noise = uniform(keys, shape, stream=stream, low=-1.0, high=1.0, dtype=dtype)
        return x_orig + epsilon * noise / per_sample(noise.flatten(1).abs().amax(1), noise)
    noise = normal(keys, shape, stream=stream, dtype=dtype)
    return x_orig + (noise if norm == "l1" else epsilon * direction(noise, norm))


@dataclass
class _PerSample:
    """Base of dataclasses whose tensors have the samples as first dimension."""

    def select(self, rows: Tensor) -> Self:
        """Return the values of some samples: `rows` is int64 `(A,)`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(
            **{name: value[rows] if isinstance(value, Tensor) else value for name, value in values.items()}
        )


@dataclass
class _Iterates(_PerSample):
    """Current point x of each sample, with its gradient and loss f; the previous point; the best point x_max."""

    x: Tensor
    x_previous: Tensor
    gradient: Tensor
    f: Tensor
    x_max: Tensor
    gradient_max: Tensor
    f_max: Tensor

    def update_max(self) -> None:
        """Replace x_max, its gradient and f_max where f is higher."""
        higher = self.f > self.f_max
        self.x_max = torch.where(per_sample(higher, self.x), self.x, self.x_max)
        self.gradient_max = torch.where(per_sample(higher, self.x), self.gradient, self.gradient_max)
        self.f_max = torch.where(higher, self.f, self.f_max)


class _Schedule(Protocol):
    """Step sizes, and the checkpoints at which samples restart from x_max."""

    def step(self, ball: Ball, iterates: _Iterates, *, first: bool) -> Tensor:
        """Return the next points."""

    def after_step(self, ball: Ball, iterates: _Iterates, increased: Tensor) -> Tensor | None:
        """Count a step; at a checkpoint return which samples restart from x_max: bool `(A,)`."""

    def select(self, rows: Tensor) -> Self: ...


@dataclass
class _Halving(_PerSample):
    """L-infinity and L2: the step size eta starts at 2 epsilon and is halved under condition 1 or 2."""

    eta: Tensor
    halved: Tensor
    f_max_before: Tensor
    increases: Tensor
    steps: int
    window: int
    steps_in_window: int = 0

    @classmethod
    def begin(cls, ball: Ball, f: Tensor, steps: int) -> Self:
        """Return the schedule at the first point, of loss f `(B,)`."""
        eta = torch.full_like(f, 2 * ball.epsilon, dtype=ball.origin.dtype)
        # Condition 2 compares two checkpoints, so it must not hold at the first.
        halved = torch.ones_like(f, dtype=torch.bool)
        return cls(eta, halved, f, torch.zeros_like(f), steps, _steps_of(_FIRST_WINDOW, steps))

    def step(self, ball: Ball, iterates: _Iterates, *, first: bool) -> Tensor:
        """Return z, or z averaged with the momentum."""
        x = iterates.x
        z = ball.project(x + per_sample(self.eta, x) * direction(iterates.gradient, ball.norm))
        if first:
            return z
        return ball.project(x + _ALPHA * (z - x) + (1 - _ALPHA) * (x - iterates.x_previous))

    def after_step(self, ball: Ball, iterates: _Iterates, increased: Tensor) -> Tensor | None:
        """Count a step; at a checkpoint, halve eta and return True where condition 1 or 2 holds (section 3.1).

        Condition 1: too few steps increased f. Condition 2: eta and f_max are those of the last checkpoint.
        """
        self.increases = self.increases + increased
        self.steps_in_window += 1
        if self.steps_in_window < self.window:
            return None
        condition_1 = self.increases <= _RHO * self.window
        condition_2 = ~self.halved & (iterates.f_max <= self.f_max_before)
        self.halved = condition_1 | condition_2
        self.eta = torch.where(self.halved, self.eta / 2, self.eta)
        self.f_max_before, self.increases = iterates.f_max, torch.zeros_like(self.increases)
        self.window = max(self.window - _steps_of(_WINDOW_DECREASE, self.steps), _steps_of(_MIN_WINDOW, self.steps))
        self.steps_in_window = 0
        return self.halved


@dataclass
class _SparseSteps(_PerSample):
    """L1: steps on the k largest entries, k following ||x_max - x_orig||_0 / 1.5; eta shrinks while that is steady."""

    eta: Tensor
    k: Tensor
    l0: Tensor
    window: int
    steps_in_window: int = 0

    @classmethod
    def begin(cls, ball: Ball, start: Tensor, steps: int) -> Self:
        """Return the schedule at the first point `(B, ...)`."""
        l0 = _l0_distance(ball, start)
        eta = torch.full_like(l0, ball.epsilon, dtype=start.dtype)
        return cls(eta, _sparsity(l0), l0, _steps_of(_L1_WINDOW, steps))

    def step(self, ball: Ball, iterates: _Iterates, *, first: bool) -> Tensor:
        """Return the point after a sparse step of L1 length eta."""
        sparse = sparse_direction(iterates.gradient, self.k)
        return ball.project(iterates.x + per_sample(self.eta, sparse) * sparse)

    def after_step(self, ball: Ball, iterates: _Iterates, increased: Tensor) -> Tensor | None:
        """Count a step; at a checkpoint, return where x_max is now sparser: eta is reset there, else reduced."""
        self.steps_in_window += 1
        if self.steps_in_window < self.window:
            return None
        l0 = _l0_distance(ball, iterates.x_max)
        sparser = l0 < 0.95 * self.l0
        shrunk = (self.eta / _L1_ETA_FACTOR).clamp(min=ball.epsilon / _L1_MAX_REDUCTION)
        self.eta = torch.where(sparser, ball.epsilon, shrunk)
        self.k, self.l0, self.steps_in_window = _sparsity(l0), l0, 0
        return sparser


def _steps_of(share: float, steps: int) -> int:
    return max(int(share * steps), 1)


def _l0_distance(ball: Ball, x: Tensor) -> Tensor:
    return (x != ball.origin).flatten(1).sum(1)


def _sparsity(l0: Tensor) -> Tensor:
    return (l0 / _L1_SPARSITY_FACTOR).ceil().clamp_(min=1).to(torch.int64)


def _maximize(
    model: AttackModel, ball: Ball, start: Tensor, y: Tensor, attempt: Attempt, *, steps: int, check: bool
) -> tuple[Tensor, Tensor]:
    """Run Algorithm 1 in one ball and return as a Run; with `check`, samples stop once they are confirmed adversarial.

    The other samples end at x_max. Losses are compared in float64: in float32 the cross-entropy of a certain prediction
    is 0 at every point, and none exceeds another.
    """
    attack_loss, targets = attempt.loss, attempt.targets
    active = ActiveSet(model, start)
    x = start
    for step in range(steps + 1):
        with active.queries():
            result = model.gradients(x, y, attack_loss, targets=targets)
            adversarial = active.adversarial(result.logits, x, y) if check else None
        f = attack_loss.value(result.outputs.double(), y, y if targets is None else targets)
        if step == 0:
            iterates = _Iterates(x, x, result.gradient, f, x, result.gradient, f)
            schedule: _Schedule = (
                _SparseSteps.begin(ball, start, steps) if ball.norm == "l1" else _Halving.begin(ball, f, steps)
            )
            restart = None
        else:
            increased = f > iterates.f
            iterates.x, iterates.x_previous, iterates.gradient, iterates.f = x, iterates.x, result.gradient, f
            iterates.update_max()
            restart = schedule.after_step(ball, iterates, increased)
        if (rows := active.remove(adversarial, x)) is not None:
            y, ball = y[rows], ball.select(rows)
            iterates, schedule = iterates.select(rows), schedule.select(rows)
            targets = None if targets is None else targets[rows]
            restart = None if restart is None else restart[rows]
        if step == steps or not len(active):
            break
        if restart is not None:
            # f stays the loss of the point just left, so that the next increase is measured between iterates.
            iterates.x = torch.where(per_sample(restart, iterates.x), iterates.x_max, iterates.x)
            iterates.gradient = torch.where(per_sample(restart, iterates.x), iterates.gradient_max, iterates.gradient)
        x = schedule.step(ball, iterates, first=step == 0)
    return active.finish(iterates.x_max)
