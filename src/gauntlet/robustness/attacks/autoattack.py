"""AutoAttack: a fixed sequence of parameter-free attacks, each on what those before have left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from gauntlet.core.geometry import distances, per_sample
from gauntlet.core.randomness import subkeys
from gauntlet.registry import ATTACKS, PositiveInt
from gauntlet.robustness.attacks.apgd import apgd
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.base.objectives import OBJECTIVES
from gauntlet.robustness.attacks.fab import Walk
from gauntlet.robustness.attacks.square import square
from gauntlet.robustness.judge import logit_margin

_Part = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(x, y, keys) -> x_adv` on the samples that are left."""

_TARGETS, _L1_TARGETS, _RESTARTS = 9, 5, 5


@ATTACKS.register(
    "autoattack",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    random={"version": "rand"},
    source="Croce and Hein 2020, arXiv:2003.01690; L1: 2021, arXiv:2103.01208",
)
def autoattack(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    version: Literal["standard", "plus", "rand"] = "standard",
    steps: PositiveInt = 100,
    queries: PositiveInt = 5000,
) -> Tensor:
    """Run APGD on cross-entropy, targeted APGD, targeted FAB and Square in turn, each on the samples that still hold.

    `standard`: APGD on cross-entropy, targeted APGD on the difference of logits ratio, targeted FAB, Square. `plus`:
    APGD on cross-entropy and on that ratio, untargeted FAB, each with 5 restarts; Square, targeted APGD, targeted FAB.
    `rand`, for models that are random (set `draws: 20` beside the attack): APGD on both losses.

    Every part starts from the image itself. `steps` is for each part but Square, for each target and restart; Square
    has `queries`. Targets are the 9 likeliest other classes, all where there are fewer; in L1 targeted APGD has 5, and
    plain APGD 5 restarts. FAB's result counts when it lies within epsilon. The ratio does not exist with two classes,
    towards targets not with three: the margin takes its place. A sample keeps the first image that is confirmed to
    fool the model; where none does, and in a transfer, where nothing is confirmed in between, the image of the
    smallest margin. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    logits = model.logits(x)
    best, smallest = x.clone(), torch.full((len(x),), torch.inf, dtype=logits.dtype, device=x.device)
    rows, outer = torch.arange(len(x), device=x.device), model.current_rows
    parts = _parts(model, version, norm=norm, epsilon=epsilon, steps=steps, queries=queries, classes=logits.shape[1])
    for name, part in parts:
        with model.rows(outer[rows]):
            found = part(x[rows], y[rows], subkeys(keys[rows], 1, stream=name)[:, 0])
            logits = model.logits(found)
            fooled = model.fooled(logits, found, y[rows])
        margin = logit_margin(logits, y[rows])
        if fooled is not None:
            # What the copy alone calls fooled must not stand in the way of what is confirmed.
            margin = torch.where(fooled, -torch.inf, margin)
        better = (margin < smallest[rows]).nonzero()[:, 0]
        best[rows[better]], smallest[rows[better]] = found[better], margin[better]
        if fooled is not None:
            rows = rows[~fooled]
            if not len(rows):
                break
    return best


def _parts(
    model: AttackModel, version: str, *, norm: str, epsilon: float, steps: int, queries: int, classes: int
) -> Iterator[tuple[str, _Part]]:
    """Give the sequence's attacks by name."""
    restarts = _RESTARTS if version == "plus" else 1

    def ascent(loss: Any, *, restarts: int = 1, targets: int = 0) -> _Part:
        if loss == "dlr" and classes < OBJECTIVES["dlr"].classes + (targets > 0):
            loss = "margin"

        def part(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
            bound: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "keys": keys}
            return apgd(model, x, y, steps=steps, restarts=restarts, loss=loss, targets=targets, **bound)

        return part

    def boundary(*, restarts: int = 1, targets: int = 0) -> _Part:
        walk = Walk(model, norm, steps=steps)

        def part(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
            found = walk.search(x, y, keys, targets=targets, restarts=restarts, enough=epsilon)
            near = distances(found - x)[norm] <= epsilon
            return torch.where(per_sample(near, x), found, x)

        return part

    def windows(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        bound: dict[str, Any] = {"norm": norm, "epsilon": epsilon, "keys": keys}
        return square(model, x, y, queries=queries, rescale_schedule=False, **bound)

    yield "apgd_cross_entropy", ascent("cross_entropy", restarts=_RESTARTS if norm == "l1" else restarts)
    if version != "standard":
        yield "apgd_dlr", ascent("dlr", restarts=restarts)
    if version == "rand":
        return
    if version == "plus":
        yield "fab", boundary(restarts=restarts)
        yield "square", windows
    yield "apgd_targeted", ascent("dlr", targets=_L1_TARGETS if norm == "l1" else _TARGETS)
    yield "fab_targeted", boundary(targets=_TARGETS)
    if version == "standard":
        yield "square", windows
