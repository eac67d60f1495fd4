"""Pooling over 2x2 windows, 1-Lipschitz in the L2 norm; an odd last row or column is dropped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class L2NormPool2d(nn.Module):
    """L2 norm of each 2x2 window (Boureau et al. 2010): images `(B, C, H, W)` to `(B, C, H // 2, W // 2)`.

    The gradient of an all-zero window is 0, whereas that of the square root is infinite.
    """

    prefers_contiguous = True

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        y: Tensor = _WindowNorm.apply(x)
        return y


class _WindowNorm(torch.autograd.Function):
    """L2 norm of windows in half the time of plain operations, whose gradient reads the images four more times."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        # Sums of strided slices are several times faster than a norm over two dimensions, or an average pooling.
        squares = _even(x)
        squares = squares * squares
        rows = squares[..., 0::2, :] + squares[..., 1::2, :]
        return (rows[..., 0::2] + rows[..., 1::2]).sqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        scaled = gradient / y.masked_fill(y == 0, torch.inf)
        columns = _alternating(scaled, scaled)
        # One multiplication of whole rows, which both rows of a window share.
        product: Tensor = (_even(x).unflatten(-2, (-1, 2)) * columns.unsqueeze(-2)).flatten(-3, -2)
        height, width = (size - pooled for size, pooled in zip(x.shape[2:], product.shape[2:], strict=True))
        return functional.pad(product, (0, width, 0, height)) if height or width else product


class MaxPool2d(nn.MaxPool2d):
    """Maximum of each 2x2 window: `nn.MaxPool2d(2)`, which is slow on a CPU unless its input is in channels last."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        y: Tensor
        if x.device.type != "cpu" or not x.is_contiguous():
            y = super().forward(x)
            return y
        y = _WindowMax.apply(_even(x))
        return y


class _WindowMax(torch.autograd.Function):
    """Maximum of windows; of equal values the first in order of rows gets the gradient, as in torch's pooling."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        rows = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
        return torch.maximum(rows[..., 0::2], rows[..., 1::2])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x = ctx.saved_tensors[0].detach()
        left, right = x[..., 0::2], x[..., 1::2]
        columns = torch.maximum(left, right)
        upper = gradient * (columns[..., 0::2, :] >= columns[..., 1::2, :])
        of_columns = torch.stack((upper, gradient - upper), dim=-2).flatten(-3, -2)
        of_left = of_columns * (left >= right)
        return _alternating(of_left, of_columns - of_left)


def _alternating(first: Tensor, second: Tensor) -> Tensor:
    """Return the columns of two tensors `(..., W)` in turn, `(..., 2 W)`, in a fraction of the time of `stack`."""
    columns = first.new_empty((*first.shape[:-1], 2 * first.shape[-1]))
    columns[..., 0::2], columns[..., 1::2] = first, second
    return columns


def _even(x: Tensor) -> Tensor:
    """Return `(..., H, W)` without an odd last row and column."""
    height, width = x.shape[-2:]
    return x[..., : height - height % 2, : width - width % 2]


class ScaledAvgPool2d(nn.Module):
    """Mean of each 2x2 window times 2, the largest factor for which the layer is 1-Lipschitz."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        return 2 * functional.avg_pool2d(x, 2)
