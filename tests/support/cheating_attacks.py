"""Attacks that each break one constraint, given by import path like a user's."""

from __future__ import annotations

import torch
from torch import Tensor

CALLS: list[tuple[int, float | None]] = []


def outside_ball(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Exceed the budget by a tenth in the first image."""
    result = x.clone()
    result[0] = x[0] + torch.where(x[0] > 0.5, -1.1, 1.1) * epsilon
    return result


def outside_box(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Stay in the ball and leave the pixel range by darkening."""
    return x - 0.9 * epsilon


def not_finite(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Put a NaN into the first image."""
    result = x.clone()
    result[0, 0, 0, 0] = torch.nan
    return result


def not_finite_on_bright(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Return NaN for the images whose first pixel is above 0.5, and the others unchanged."""
    return torch.where(x[:, :1, :1, :1] > 0.5, torch.nan, x)


def in_place(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Change the given image, which success is measured against."""
    return x.add_(10 * epsilon).clamp_(0, 1)


def a_little_brighter(model: object, x: Tensor, y: Tensor) -> Tensor:
    """Return a point that is no success, without a budget."""
    return x + 0.001


def wrong_shape(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Return one image too few."""
    return x[1:]


def no_tensor(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> str:
    """Return a string."""
    return "fooled"


def raising(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float) -> Tensor:
    """Raise an error."""
    raise ZeroDivisionError("no gradient today")


def memory_hungry(model: object, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor) -> Tensor:
    """Alter the input and run out of memory with over three images; else brighten by epsilon. Records its calls."""
    CALLS.append((len(x), epsilon))
    if len(x) > 3:
        x.zero_()
        raise torch.OutOfMemoryError("CUDA out of memory")
    model.logits(x)  # type: ignore[attr-defined]
    return (x + epsilon).clamp(0, 1)
