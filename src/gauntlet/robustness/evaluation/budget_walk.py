"""Order in which the budgets of an attack are tried on each sample: upward, or downward with clipped successes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gauntlet.core.budgets import reaches
from gauntlet.core.geometry import Ball
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.evaluation.sample_results import SampleResults
from gauntlet.robustness.evaluation.types import AttackSettings
from gauntlet.robustness.evaluation.verification import inside


class BudgetWalk:
    """Search, for each of B samples, for the smallest budget at which an attack fools it.

    `epsilons` are the budgets, smallest first; ``(None,)`` for a minimum-norm attack. A sample's budget lies above
    `lower` and is at most `upper`, both int64 `(B,)` and positions in `epsilons`: -1 before any budget failed, and
    ``len(epsilons)`` before any succeeded. The sample is finished when these are neighbors. Upward, the next budget is
    the one above `lower`; downward, the one below `upper`, so that a sample which holds there is finished, unless its
    point fools the judge in a smaller ball (`try_below_held`).
    """

    def __init__(self, epsilons: Sequence[float | None], attacked: Tensor, *, downward: bool) -> None:
        self.epsilons, self.downward = epsilons, downward
        self.lower = torch.full_like(attacked, -1, dtype=torch.int64)
        # Samples that are not attacked are finished before they start.
        self.upper = torch.where(attacked, len(epsilons), 0)

    def next(self) -> tuple[int, Tensor] | None:
        """Return the position of the budget to try now, and the samples to try it on, int64 `(A,)`; None at the end."""
        position = self.upper - 1 if self.downward else self.lower + 1
        unfinished = (self.upper - self.lower > 1).nonzero()[:, 0]
        if not len(unfinished):
            return None
        positions = position[unfinished]
        now = int(positions.max() if self.downward else positions.min())
        return now, unfinished[positions == now]

    def update(self, samples: Tensor, position: int, robust: Tensor) -> None:
        """Record which of the `samples` `(A,)` held at a budget: bool `(A,)`.

        The others were fooled, or their image was invalid: what is left to try is below either.
        """
        self.lower[samples[robust]] = position
        self.upper[samples[~robust]] = position


def walks_downward(attack: AttackSettings, model: AttackModel) -> bool:
    """Return whether the budgets of an attack are tried from the largest to the smallest.

    The tag `downward` lists the norms in which an attack stops each sample at its first success, and is assumed to
    succeed at every budget above one at which it succeeds. Neither holds in a transfer. The second does not hold for a
    random model, nor with fewer steps than FEWEST_STEPS, which pass the nearest class at large budgets, nor where all
    steps of a fixed `step_size` add up to less than the largest budget, so that they do not lead back from a random
    start.
    """
    if attack.norm not in ATTACKS.entry(attack.spec.name).tags.get("downward", ()) or attack.epsilons is None:
        return False
    step_size = attack.spec.options.get("step_size")
    crosses = not isinstance(step_size, int | float) or reaches(attack.steps, step_size, max(attack.epsilons))
    return crosses and not (attack.has_few_steps or model.transfers or model.judge.is_random)


def try_smaller_balls(walk: BudgetWalk, results: SampleResults, model: AttackModel, samples: Tensor) -> None:
    """Project the successes of the `samples` `(A,)` to smaller balls, and record those that still fool the judge.

    The radii are bisected between `lower` and `upper`, which becomes the smallest that is found.
    """
    points, low, high = results.points[samples], walk.lower[samples], walk.upper[samples]
    while True:
        rows = (high - low > 1).nonzero()[:, 0]
        if not len(rows):
            break
        middle = (low + high)[rows] // 2
        fooled = _judge_projected(walk, results, model, samples[rows], points[rows], middle)
        high[rows] = torch.where(fooled, middle, high[rows])
        low[rows] = torch.where(fooled, low[rows], middle)
    walk.upper[samples] = high


def try_below_held(
    walk: BudgetWalk, results: SampleResults, model: AttackModel, samples: Tensor, points: Tensor, position: int
) -> None:
    """Project points `(A, C, H, W)` that fool nobody at a budget to all smaller balls, smallest first.

    Steps at a large budget may lead across a thin region where the class is another. A sample that is fooled there goes
    on from that budget downward.
    """
    if not walk.downward:
        return
    for smaller in range(position):
        fooled = _judge_projected(walk, results, model, samples, points, torch.full_like(samples, smaller))
        walk.upper[samples[fooled]], walk.lower[samples[fooled]] = smaller, -1
        samples, points = samples[~fooled], points[~fooled]


def _judge_projected(
    walk: BudgetWalk, results: SampleResults, model: AttackModel, samples: Tensor, points: Tensor, positions: Tensor
) -> Tensor:
    """Project points of the samples to balls of the budgets at `positions`; record and return who is fooled there.

    Each check counts as a forward pass. A point that is outside its ball by more than rounding, or whose logits are not
    finite, is no success.
    """
    x, norm, clipped = results.x[samples], results.attack.norm, points.clone()
    epsilon = torch.empty(len(samples), dtype=torch.float64, device=x.device)
    for position in positions.unique().tolist():
        same = positions == position
        epsilon[same] = radius = float(walk.epsilons[position] or 0.0)
        clipped[same] = Ball(x[same], radius, norm).project(clipped[same])
    if not len(samples):
        return torch.zeros_like(samples, dtype=torch.bool)
    logits = model.judge.logits(clipped)
    valid = logits.isfinite().all(1) & inside(x, clipped, norm=norm, epsilon=epsilon)
    return results.record_point(samples, clipped, logits, valid, epsilon, passes=model.judge.draws)
