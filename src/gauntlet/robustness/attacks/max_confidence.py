"""MaxConfidence: the misclassified image with the highest confidence.

Goodfellow, Qin, Berthelot 2019, OpenReview H1g0piA9tQ; recipes: attack bundling, Goodfellow 2018, arXiv:1811.03685.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, direction
from gauntlet.registry import ATTACKS, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel

_REFINEMENT = 25
"""In the second PGD run of `single`, steps are this many times smaller and more numerous."""
_GOALS = (0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375, 1.0)
"""Confidence thresholds t of `fixed`."""


class _Run(NamedTuple):
    """One run on the samples with confidence below `goal`: noise, or PGD to every class, refined `refinement` times."""

    goal: float
    noise: bool
    refinement: int = 1


def _recipe(name: str) -> Iterator[_Run]:
    if name == "single":
        yield from (_Run(1.0, noise=True), _Run(1.0, noise=False), _Run(1.0, noise=False, refinement=_REFINEMENT))
        return
    # The first goal is a misclassification of any confidence.
    for noise, runs in ((True, 50), (False, 5)):
        yield from [_Run(0.0, noise)] * runs
    for goal in _GOALS:
        for noise in (True, False):
            yield from [_Run(goal, noise)] * 5


@ATTACKS.register(
    "max_confidence",
    kind="bounded",
    norms=("linf", "l2"),
    access="gradient",
    batching="attack",
    maximizes="confidence",
    losses=("cross_entropy",),
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
    """Attack each image towards every other class; return the misclassified image with the highest confidence.

    The base attack is targeted PGD on the cross-entropy from a random start, with `steps` steps of `step_size` (default
    2.5 epsilon / steps); it does not stop at the first success. `single`: noise once, PGD to each class once, and once
    more with 25 times as many steps of a 25th of the size. `fixed`: 50 times noise and 5 times PGD until misclassified,
    then 5 times both for each of the confidences 0.5, 0.75, ... 0.984375, 1 that is not reached yet.

    Where no image is misclassified, the result is the image with the lowest confidence in the label. If the base attack
    were optimal, the result would be optimal for every confidence threshold of at least 0.5. x is `(B, C, H, W)` in
    [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size
    x_adv = x.clone()
    best = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
    classes = model.judge.logits(x[:1]).shape[1]
    runs = [(run, rank) for run in _recipe(recipe) for rank in range(1 if run.noise else classes - 1)]
    for number, (run, rank) in enumerate(runs):
        # Scores up to zero belong to images that are classified correctly.
        rows = (best < run.goal if run.goal > 0 else best <= 0).nonzero()[:, 0]
        if not len(rows):
            continue
        ball, labels = Ball(x[rows], epsilon, norm), y[rows]
        targets = rank + (labels <= rank).to(torch.int64)  # the rank-th class other than the label
        points = ball.random_point(keys[rows], stream=f"start:{number}")
        with model.subset(rows):
            for _ in range(0 if run.noise else steps * run.refinement):
                gradient = model.gradients(points, labels, TARGETED_LOSSES["cross_entropy"], targets=targets).gradient
                points = ball.project(points + size / run.refinement * direction(gradient, norm))
            score = _score(model, points, labels)
        higher = (score > best[rows]).nonzero()[:, 0]
        x_adv[rows[higher]], best[rows[higher]] = points[higher], score[higher]
    return x_adv


def _score(model: AttackModel, x: Tensor, y: Tensor) -> Tensor:
    """Return the confidence in the predicted class if it is wrong, else minus the confidence in the label: `(B,)`.

    x is `(B, C, H, W)`.
    """
    logits = model.logits(x)
    wrong = model.misclassified(logits, x, y)
    probabilities = model.probabilities(logits)
    label = probabilities.gather(1, y[:, None])[:, 0]
    other = probabilities.scatter(1, y[:, None], 0.0).amax(1)
    return torch.where(wrong, other, -label)
