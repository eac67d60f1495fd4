"""GroupSort of pairs: 1-Lipschitz and gradient norm preserving (Anil et al. 2019, arXiv:1811.05381)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GroupSort2(nn.Module):
    """Sorting of each pair of adjacent channels (dimension 1, an even number) in ascending order."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, ...)` to the same shape."""
        y: Tensor = _SortPairs.apply(x)[0]
        return y


class _SortPairs(torch.autograd.Function):
    """Sorting of pairs, twice as fast as minimum, maximum and stack; the gradient is a permutation even for ties."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x[:, 0::2], x[:, 1::2]
        y = torch.empty_like(x)
        y[:, 0::2] = torch.minimum(first, second)
        y[:, 1::2] = torch.maximum(first, second)
        return y, first < second

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ordered = output[1]
        ctx.save_for_backward(ordered)
        ctx.mark_non_differentiable(ordered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (ordered,), gradient = ctx.saved_tensors, gradients[0]
        low, high = gradient[:, 0::2], gradient[:, 1::2]
        out = torch.empty_like(gradient)
        out[:, 0::2] = torch.where(ordered, low, high)
        out[:, 1::2] = torch.where(ordered, high, low)
        return out
