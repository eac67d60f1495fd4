"""Adaptive attack: PGD through the surrogates and losses that suit the model's kind of output."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import ATTACKS, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.ascent import attack_with_restarts, pgd_run
from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES, likeliest_targets
from gauntlet.robustness.attacks.base.model import AttackModel

_CANDIDATES = 9
_DUAL_ORDERS = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}


@ATTACKS.register(
    "adaptive",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    directions_only=True,
    adaptive=True,
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
    the margin loss. Targets are the `targets` nearest classes to first order among the 9 likeliest (`nearest_targets`),
    likeliest of all classes where `targets` is larger; 0 omits the targeted runs. `step_size` defaults to 2.5 epsilon /
    steps. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    x_adv, robust = x.clone(), torch.arange(len(x), device=x.device)
    runs = [(*pair, count) for pair in model.adaptive for count in dict.fromkeys((0, targets))]
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
            x_adv[robust], still_robust = attack_with_restarts(
                model,
                x_clean,
                labels,
                run,
                loss=loss,
                restarts=restarts,
                targets=ranked[surrogate][robust] if count else 0,
                stream=f"start:{surrogate}:{loss}",
                last=number == len(runs) - 1,
            )
        robust = robust[still_robust]
        if not len(robust):
            break
    return x_adv


def nearest_targets(model: AttackModel, x: Tensor, y: Tensor, *, norm: str, count: int) -> Tensor:
    """Return the `count` classes whose boundaries are nearest to first order, nearest first: int64 `(B, T)`.

    The distance to class t is (z_y - z_t) / ||gradient of z_t - z_y||, in the dual norm, for the outputs z of the
    current surrogate at x `(B, C, H, W)`; it is exact for an affine model. The candidates are the 9 likeliest classes,
    at a cost of a forward and a backward each, and are not ordered where all of them are targets. T is at most K - 1.
    Source: Moosavi-Dezfooli, Fawzi, Frossard 2016, arXiv:1511.04599.
    """
    logits = model.logits(x)
    candidates = likeliest_targets(logits, y, max(count, _CANDIDATES))
    if candidates.shape[1] <= count:
        return candidates
    loss, distances = TARGETED_LOSSES["margin"], []
    for targets in candidates.T:
        result = model.gradients(x, y, loss, targets=targets)
        gap = -loss.value(result.outputs, y, targets).double()
        slope = torch.linalg.vector_norm(result.gradient.double().flatten(1), ord=_DUAL_ORDERS[norm], dim=1)
        distances.append(torch.where(slope > 0, gap / slope, torch.inf))
    order = torch.stack(distances, 1).argsort(dim=1, stable=True)[:, :count]
    return candidates.gather(1, order)
