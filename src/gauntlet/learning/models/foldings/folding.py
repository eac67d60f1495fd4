"""Base class of foldings, and the extremum over their pieces."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Folding(nn.Module):
    """Reduction of each `pieces` adjacent channels (dimension 1) to one: `(B, pieces * C, ...)` to `(B, C, ...)`.

    The base class has one piece and is the identity.
    """

    pieces: int = 1

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, pieces * C, ...)` to `(B, C, ...)`."""
        return x


def largest(x: Tensor, pieces: int) -> Tensor:
    """Compute the maximum of each `pieces` adjacent channels: `(B, pieces * C, ...)` to `(B, C, ...)`."""
    y: Tensor = _Extremum.apply(x, pieces, True)
    return y


def smallest(x: Tensor, pieces: int) -> Tensor:
    """Compute the minimum of each `pieces` adjacent channels: `(B, pieces * C, ...)` to `(B, C, ...)`."""
    y: Tensor = _Extremum.apply(x, pieces, False)
    return y


class _Extremum(torch.autograd.Function):
    """Maximum or minimum over adjacent channels, whose gradient ties share equally, as in `amax` and `amin`.

    The gradient of torch's functions takes several times as long: it counts ties in integers.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, pieces: int, is_maximum: bool) -> Tensor:
        groups: Tensor = x.unflatten(1, (-1, pieces))
        return groups.amax(2) if is_maximum else groups.amin(2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, bool], output: Tensor) -> None:
        ctx.pieces = inputs[1]
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        # 1 where a channel equals the extremum, which is constant almost everywhere.
        chosen = x.detach().unflatten(1, (-1, ctx.pieces)).clone().eq_(y.detach().unsqueeze(2))
        share = gradient / chosen.sum(2)
        return (chosen * share.unsqueeze(2)).flatten(1, 2), None, None
