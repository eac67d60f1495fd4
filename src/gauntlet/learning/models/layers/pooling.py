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

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        y: Tensor = _WindowNorm.apply(x)
        return y


class _WindowNorm(torch.autograd.Function):
    """L2 norm of windows in half the time of plain operations, whose gradient reads the images four more times."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        # Average pooling of the squares is several times faster than a norm over two strided dimensions.
        return (4 * functional.avg_pool2d(x * x, 2)).sqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, y = ctx.saved_tensors
        scaled = functional.interpolate(gradient / torch.where(y > 0, y, torch.inf), scale_factor=2.0)
        height, width = (size - pooled for size, pooled in zip(x.shape[2:], scaled.shape[2:], strict=True))
        if height or width:
            scaled = functional.pad(scaled, (0, width, 0, height))
        product: Tensor = x * scaled
        return product


class ScaledAvgPool2d(nn.Module):
    """Mean of each 2x2 window times 2, the largest factor for which the layer is 1-Lipschitz."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        return 2 * functional.avg_pool2d(x, 2)
