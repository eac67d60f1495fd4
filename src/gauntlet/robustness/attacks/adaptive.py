"""PGD through the views and losses that fit the model's kind of output."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.registry import ATTACKS, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.ascent import from_random_starts, on_survivors
from gauntlet.robustness.attacks.base.model import AttackModel


@ATTACKS.register(
    "adaptive",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
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
    """Run PGD for each pair of view and loss that the model names, best first, away from the label, then to rivals.

    Each run attacks what still holds. A model that names no pairs has its logits and the margin. `step_size` defaults
    to 2.5 epsilon / steps; `targets: 0` leaves the rivals out. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`;
    the result has the shape of x.
    """
    found, left = x.clone(), torch.arange(len(x), device=x.device)
    outer = model.current_rows
    plan = [(pair, aimed) for pair in model.adaptive for aimed in dict.fromkeys((0, targets))]
    for number, ((view, loss), aimed) in enumerate(plan):
        points, labels = x[left], y[left]
        run = from_random_starts(
            model,
            points,
            labels,
            norm=norm,
            epsilon=epsilon,
            keys=keys[left],
            steps=steps,
            step_size=step_size,
            loss=loss,
        )
        with model.through(view), model.rows(outer[left]):
            found[left], held = on_survivors(
                model,
                points,
                labels,
                run,
                restarts=restarts,
                targets=aimed,
                stream=f"start:{view}:{loss}",
                last=number == len(plan) - 1,
            )
        left = left[held]
        if not len(left):
            break
    return found
