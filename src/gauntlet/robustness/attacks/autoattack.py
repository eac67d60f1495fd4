"""AutoAttack: a fixed sequence of parameter-free attacks, each on the samples that are still robust."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from gauntlet.core.geometry import distances, per_sample
from gauntlet.core.randomness import subkeys
from gauntlet.registry import ATTACKS, PositiveInt
from gauntlet.robustness.attacks.apgd import apgd
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.fab import FAB
from gauntlet.robustness.attacks.square import square

_Attack = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(x, y, keys) -> x_adv` on the samples that are still robust."""

_TARGETS, _L1_TARGETS, _RESTARTS = 9, 5, 5


@ATTACKS.register(
    "autoattack",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    downward=("linf", "l2"),
    random={"version": "rand"},
    losses=("cross_entropy", "dlr"),
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
    """Run APGD-CE, APGD-T, FAB-T and Square in order, each on the samples that are still robust.

    `standard`: APGD on cross-entropy, targeted APGD on DLR, targeted FAB, Square. `plus`: APGD on cross-entropy and on
    DLR, untargeted FAB, each with 5 restarts; Square, targeted APGD, targeted FAB. `rand`, for random models (set
    `draws: 20` in the attack's entry): APGD on cross-entropy and on DLR.

    Every attack starts from the clean image. `steps` is per attack, target and restart; Square has `queries`. Targets
    are the 9 likeliest other classes, or all if there are fewer; in L1 targeted APGD has 5, and APGD on cross-entropy 5
    restarts. FAB's result counts if it lies within epsilon. DLR needs three classes, targeted DLR four; with fewer the
    margin replaces it. A sample keeps the first image that is confirmed adversarial. Where none is, and in a transfer,
    where none is confirmed before the end, it keeps the image with the smallest margin. x is `(B, C, H, W)` in [0, 1],
    y and keys int64 `(B,)`; the result has the shape of x.
    """
    logits = model.logits(x)
    x_adv, min_margin = x.clone(), torch.full((len(x),), torch.inf, dtype=logits.dtype, device=x.device)
    robust = torch.arange(len(x), device=x.device)
    attacks = _attacks(
        model, version, norm=norm, epsilon=epsilon, steps=steps, queries=queries, classes=logits.shape[1]
    )
    for name, attack in attacks:
        with model.subset(robust):
            points = attack(x[robust], y[robust], subkeys(keys[robust], 1, stream=name)[:, 0])
            logits = model.logits(points)
            adversarial = model.is_adversarial(logits, points, y[robust])
            margin = model.margins(points, y[robust], logits=logits)
        if adversarial is not None:
            # A confirmed success outranks points that only the copy misclassifies.
            margin = torch.where(adversarial, -torch.inf, margin)
        lower = (margin < min_margin[robust]).nonzero()[:, 0]
        x_adv[robust[lower]], min_margin[robust[lower]] = points[lower], margin[lower]
        if adversarial is not None:
            robust = robust[~adversarial]
            if not len(robust):
                break
    return x_adv


def _attacks(
    model: AttackModel, version: str, *, norm: str, epsilon: float, steps: int, queries: int, classes: int
) -> Iterator[tuple[str, _Attack]]:
    """Yield the attacks of a version in order; each name addresses the attack's random draws."""
    budget: dict[str, Any] = {"norm": norm, "epsilon": epsilon}
    restarts = _RESTARTS if version == "plus" else 1

    def apgd_on(loss: Any, *, restarts: int = 1, targets: int = 0) -> _Attack:
        if loss == "dlr" and classes < UNTARGETED_LOSSES["dlr"].min_classes + (targets > 0):
            loss = "margin"

        def attack(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
            return apgd(model, x, y, keys=keys, steps=steps, restarts=restarts, loss=loss, targets=targets, **budget)

        return attack

    def fab(*, restarts: int = 1, targets: int = 0) -> _Attack:
        search = FAB(model, norm, steps=steps)

        def attack(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
            points = search.run(x, y, keys, targets=targets, restarts=restarts, epsilon=epsilon)
            within = distances(points - x)[norm] <= epsilon
            return torch.where(per_sample(within, x), points, x)

        return attack

    def square_search(x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        return square(model, x, y, keys=keys, queries=queries, rescale_schedule=False, **budget)

    yield "apgd_cross_entropy", apgd_on("cross_entropy", restarts=_RESTARTS if norm == "l1" else restarts)
    if version != "standard":
        yield "apgd_dlr", apgd_on("dlr", restarts=restarts)
    if version == "rand":
        return
    if version == "plus":
        yield "fab", fab(restarts=restarts)
        yield "square", square_search
    yield "apgd_targeted", apgd_on("dlr", targets=_L1_TARGETS if norm == "l1" else _TARGETS)
    yield "fab_targeted", fab(targets=_TARGETS)
    if version == "standard":
        yield "square", square_search
