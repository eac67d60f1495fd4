"""Distinction between rounding and dependence, where a row differs between two batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gauntlet.core.errors import GauntletError
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.random_networks import DispatchMode

Differ = Callable[[Judge, Tensor], tuple[float, float]]
"""Largest difference of the rows of images between batches, and the largest logit."""

NEGLIGIBLE = 2e-6
"""Share of the largest logit below which a difference in float32 needs no explanation."""
DEPENDENCE = 1e-10
"""Share of the largest logit above which a difference in float64 is no rounding."""
UNEXPLAINED = 1e-4
"""Share accepted where the model cannot compute in float64."""


def exceeds_rounding(judge: Judge, x: Tensor, differ: Differ) -> bool:
    """Return whether the rows of images `(B, C, H, W)` differ between batches by more than rounding explains.

    Rounding in float32 may be amplified by a deep network, so a copy in float64 decides: there, rounding is smaller by
    2^29, and a dependence is as large as before. For a model that computes in half precision itself, or not at all in
    float64, a multiple of its own rounding is accepted.
    """
    difference, scale = differ(judge, x)
    if difference <= NEGLIGIBLE * scale:
        return False
    own = _coarsest_rounding(judge, x)
    if own > torch.finfo(torch.float32).eps:
        return difference > 8 * own * scale
    if judge.dtype == torch.float64:
        return difference > DEPENDENCE * scale
    try:
        exact = Judge(judge.network, device=judge.device, dtype=torch.float64, draws=judge.draws)
        difference_64, scale_64 = differ(exact, x.to(torch.float64))
    except (GauntletError, RuntimeError, TypeError, ValueError, NotImplementedError):
        return difference > UNEXPLAINED * scale
    if _coarsest_rounding(exact, x) > torch.finfo(torch.float64).eps:
        return difference > UNEXPLAINED * scale
    return difference_64 > DEPENDENCE * scale_64


def _coarsest_rounding(judge: Judge, x: Tensor) -> float:
    """Return the largest unit roundoff (eps) of any floating-point tensor that a pass computes."""
    watch, images = _CoarsestRounding(), x[:2].to(judge.dtype)
    try:
        with watch:
            judge.logits(images, draws=1)
    except (GauntletError, RuntimeError, TypeError, NotImplementedError):
        return float(torch.finfo(judge.dtype).eps)
    return watch.eps


def largest_difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference of two tensors of logits; infinite where only one of them is finite."""
    same = (first == second) | (first.isnan() & second.isnan())
    return float(torch.where(same, 0.0, (first - second).abs().nan_to_num(torch.inf)).amax())


def largest_logit(logits: Tensor) -> float:
    """Return the largest finite absolute value of logits."""
    return float(logits.abs().nan_to_num(0.0, 0.0, 0.0).amax())


class _CoarsestRounding(DispatchMode):
    """Record of the coarsest floating-point type among the results of operations."""

    eps = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and note the type of its results."""
        result = func(*args, **dict(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
                self.eps = max(self.eps, torch.finfo(value.dtype).eps)
        return result
