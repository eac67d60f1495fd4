"""Check that compares the losses of gradient attacks on one model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gauntlet.core.errors import InputError
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.diagnostics.measurements import Measurement
from gauntlet.robustness.diagnostics.probed_model import ProbedModel

CHECK = "margin_beats_cross_entropy"
_REFERENCE, _RIVALS = "cross_entropy", ("margin", "dlr")


def compare_losses(model: ProbedModel, norm: str, grid: Sequence[float], steps: int) -> Measurement:
    """Measure the samples that PGD on the margin or DLR fools and PGD on the cross-entropy does not.

    All losses have the same starting points and steps. Of the budgets in `grid`, the one with most such samples counts.
    A sound network may lose a few samples this way; many mean that the cross-entropy does not suit its logits, as where
    they are small, and that attacks with this loss alone overestimate robustness.
    """
    classes = model.network(model.x[:1]).shape[1]
    rivals = [name for name in _RIVALS if classes >= UNTARGETED_LOSSES[name].min_classes]
    try:
        reference = model.smallest_budgets(norm, grid, steps=steps, loss=_REFERENCE)
        reached = {name: model.smallest_budgets(norm, grid, steps=steps, loss=name) for name in rivals}
    except InputError as error:
        return Measurement.not_applicable(CHECK, norm, f"PGD cannot run: {error}")
    best = torch.stack(list(reached.values())).amin(0)
    wins = {epsilon: (best <= epsilon) & (reference > epsilon) for epsilon in grid}
    epsilon = max(grid, key=lambda budget: int(wins[budget].sum()))
    reverse = int(((reference <= epsilon) & (best > epsilon)).sum())
    alone = ", ".join(
        f"{name} {int(((budgets <= epsilon) & (reference > epsilon)).sum())}" for name, budgets in reached.items()
    )
    return model.share(
        CHECK,
        norm,
        wins[epsilon],
        f"PGD with {steps} steps fools them at ε = {epsilon:g}, the budget with the most, on another loss ({alone}) and"
        f" not on the cross-entropy from the same points ({reverse} the other way round)",
    )
