"""MaxConfidence: the wrong answer that the model is surest of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel, misclassified
from gauntlet.robustness.attacks.base.objectives import TARGETED_OBJECTIVES

_FINER = 25
"""How many times smaller and more numerous the steps of the second run of `single` are."""
_GOALS = (0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375, 1.0)


class _Run(NamedTuple):
    """One try on the samples whose confidence is below `goal`: noise, or a descent to every class by finer steps."""

    goal: float
    noise: bool
    finer: int = 1


def _recipe(name: str) -> Iterator[_Run]:
    if name == "single":
        yield from (_Run(1.0, noise=True), _Run(1.0, noise=False), _Run(1.0, noise=False, finer=_FINER))
        return
    # A misclassification of any confidence is the first goal.
    for noise, runs in ((True, 50), (False, 5)):
        yield from [_Run(0.0, noise)] * runs
    for goal in _GOALS:
        for noise in (True, False):
            yield from [_Run(goal, noise)] * 5


@ATTACKS.register(
    "max_confidence",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    maximises="confidence",
    source="Goodfellow, Qin, Berthelot 2019, OpenReview H1g0piA9tQ; Goodfellow 2018, arXiv:1811.03685",
)
def max_confidence(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    recipe: Literal["single", "fixed"] = "single",
    steps: PositiveInt = 40,
    step_size: PositiveFloat | None = None,
) -> Tensor:
    """Drive each image to every other class in turn; of what is misclassified, return what the model is surest of.

    The base is targeted PGD on the cross-entropy from a random start, of `steps` steps of `step_size` (2.5 epsilon
    / steps if not said); it does not stop at the first success. `single`: once noise, once PGD for each class, once
    more with 25 times as many steps of a 25th of the size. `fixed`: 50 times noise and 5 times PGD until
    misclassified, then 5 times both for each of the confidences 0.5, 0.75, ... 0.984375, 1 not reached yet.

    Where no image is misclassified, it is the least confident in its label of those tried. If the base were optimal,
    so would be the result, for every threshold of confidence from one half up. x is `(B, C, H, W)` in [0, 1], y and
    keys int64 `(B,)`; the result has the shape of x.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    best = x.clone()
    score = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
    classes = model.judge(x[:1]).shape[1]
    outer = model.current_rows
    tries = [(run, rank) for run in _recipe(recipe) for rank in range(1 if run.noise else classes - 1)]
    for number, (run, rank) in enumerate(tries):
        # Scores up to zero are of images that the model still gets right.
        rows = (score < run.goal if run.goal > 0 else score <= 0).nonzero()[:, 0]
        if not len(rows):
            continue
        ball, labels = Ball(x[rows], epsilon, norm), y[rows]
        targets = rank + (labels <= rank).to(torch.int64)  # the classes without the label, in order
        found = ball.random_point(keys[rows], stream=f"start:{number}")
        with model.rows(outer[rows]):
            for _ in range(0 if run.noise else steps * run.finer):
                slope = model.gradients(found, labels, TARGETED_OBJECTIVES["cross_entropy"], targets=targets)
                found = ball.project(found + size / run.finer * direction(slope.gradient, norm))
            value = _score(model, found, labels)
        better = (value > score[rows]).nonzero()[:, 0]
        best[rows[better]], score[rows[better]] = found[better], value[better]
    return best


def _score(model: AttackModel, x: Tensor, y: Tensor) -> Tensor:
    """Give the largest probability of another class where that is the answer, above zero; elsewhere minus the label's.

    `(B,)` for images x `(B, C, H, W)`.
    """
    logits = model.logits(x)
    wrong = misclassified(model, logits, x, y)
    probabilities = model.probabilities(logits)
    label = probabilities.gather(1, y[:, None])[:, 0]
    other = probabilities.scatter(1, y[:, None], 0.0).amax(1)
    return torch.where(wrong, other, -label)
