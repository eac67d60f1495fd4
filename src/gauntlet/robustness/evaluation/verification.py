"""Independent checks: of gradients before an attack runs, and of every image that an attack returns."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import GauntletError, InputError, first_line
from gauntlet.core.geometry import distances
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.networks import offered_surrogates

BOX_TOLERANCE = 1e-6
BALL_RELATIVE, BALL_ABSOLUTE = 1e-5, 1e-6

Radius = TypeVar("Radius", float, Tensor)


def check_gradients(model: AttackModel, x: Tensor) -> None:
    """Check that the model has gradients that are finite and not zero on at least one of the images `(B, C, H, W)`.

    Zero or non-finite gradients on single images are counted in the rows and diagnosed. If memory runs out, fewer
    images are checked. Raises InputError, which names the model's other views, and GauntletError if memory does not
    suffice for one image.
    """
    predictions = model.judge.logits(x).argmax(1)
    model.start_counting(len(x))
    gradient = None
    try:
        gradient = model.gradients(x, predictions, UNTARGETED_LOSSES["margin"]).gradient
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            problem = f"the model has no gradient ({first_line(error)})"
            raise device_error(error) or InputError(problem, remedy=_alternatives(model)) from error
    # Outside `except`, whose error keeps the tensors of the failed pass alive.
    if gradient is None:
        if len(x) == 1:
            raise GauntletError("out of memory with one image", remedy="use a device with more memory")
        check_gradients(model, x[: len(x) // 2])
        return
    count = int((model.counts.totals["nonfinite_gradients"] > 0).sum())
    if count == len(x):
        raise InputError(f"the model's gradient is not finite on all of {len(x)} images", remedy=_alternatives(model))
    if not gradient.any():
        raise InputError(f"the model's gradient is zero on all of {len(x)} images", remedy=_alternatives(model))


def _alternatives(model: AttackModel) -> str:
    offered = [name for name in offered_surrogates(model.network) if name not in ("logits", model.surrogate)]
    if offered:
        return f"take gradients from another view, surrogate: {' | '.join(offered)}, or use an attack without gradients"
    return "use an attack without gradients"


def find_invalid(x: Tensor, returned: Tensor, *, norm: str, epsilon: float | None) -> dict[int, str]:
    """Return why returned images `(B, C, H, W)` are invalid: row to reason.

    Each must be finite, in [0, 1] within 1e-6, and, for a bounded attack, no farther than epsilon (1 + 1e-5) + 1e-6 (in
    L0 than epsilon).
    """
    flat = returned.flatten(1)
    finite = flat.isfinite().all(1)
    boxed = ((flat >= -BOX_TOLERANCE) & (flat <= 1 + BOX_TOLERANCE)).all(1)
    size = distances(returned - x)[norm]
    limit = float("inf") if epsilon is None else _limit(epsilon, norm)
    reasons: dict[int, str] = {}
    for row in (~(finite & boxed & (size <= limit))).nonzero()[:, 0].tolist():
        if not finite[row]:
            reasons[row] = "it has values that are not finite"
        elif not boxed[row]:
            reasons[row] = f"its values lie in [{float(flat[row].min()):g}, {float(flat[row].max()):g}]"
        else:
            reasons[row] = f"its {norm} distance {float(size[row]):g} exceeds epsilon {epsilon:g}"
    return reasons


def inside(x: Tensor, points: Tensor, *, norm: str, epsilon: Tensor) -> Tensor:
    """Return which points `(B, C, H, W)` of [0, 1] are within `epsilon` `(B,)` of x, up to rounding: bool `(B,)`."""
    return distances(points - x)[norm] <= _limit(epsilon, norm)


def _limit(epsilon: Radius, norm: str) -> Radius:
    # In L0 distances are numbers of values, which are not rounded.
    return epsilon if norm == "l0" else epsilon * (1 + BALL_RELATIVE) + BALL_ABSOLUTE
