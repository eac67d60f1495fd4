"""Adaptive attack: PGD through the surrogates and losses that suit the model's kind of output."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import ATTACKS, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.ascent import KeptPoints, attack_with_restarts, pgd_run
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.base.targets import nearest_targets


@ATTACKS.register(
    "adaptive",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    downward=("linf", "l2", "l1"),
    directions_only=True,
    adaptive=True,
    losses=("cross_entropy", "margin"),
    source="Tramer et al. 2020, arXiv:2002.08347; targets: Gowal et al. 2019, arXiv:1910.09338",
)
def adaptive(
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
    targets: NonNegativeInt = 3,
) -> Tensor:
    """Run PGD with each pair of surrogate and loss that the model names, untargeted, then targeted.

    Each run attacks the samples that are still robust. A model that names no pairs is attacked through its logits with
    the margin loss. Targets are the `targets` classes that are nearest to first order (`nearest_targets`); 0 omits the
    targeted runs. `step_size` defaults to 2.5 epsilon / steps. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`;
    the result has the shape of x.
    """
    robust = torch.arange(len(x), device=x.device)
    runs = [(*pair, count) for pair in model.adaptive for count in dict.fromkeys((0, targets))]
    kept = KeptPoints(model, x, runs=len(runs))
    ranked: dict[str, Tensor] = {}
    for number, (surrogate, loss, count) in enumerate(runs):
        x_clean, labels = x[robust], y[robust]
        run = pgd_run(
            model,
            x_clean,
            labels,
            norm=norm,
            epsilon=epsilon,
            keys=keys[robust],
            steps=steps,
            step_size=step_size,
        )
        with model.using_surrogate(surrogate), model.subset(robust):
            if count and surrogate not in ranked:
                # Later runs attack samples among these.
                nearest = nearest_targets(model, x_clean, labels, norm=norm, count=count)
                ranked[surrogate] = nearest.new_zeros(len(x), nearest.shape[1]).index_copy_(0, robust, nearest)
            points, still_robust = attack_with_restarts(
                model,
                x_clean,
                labels,
                run,
                norm=norm,
                loss=loss,
                restarts=restarts,
                targets=ranked[surrogate][robust] if count else 0,
                stream=f"start:{surrogate}:{loss}",
                last=number == len(runs) - 1,
            )
            kept.keep(robust, points, labels)
        robust = robust[still_robust]
        if not len(robust):
            break
    return kept.points
