"""Poolings over 2x2 windows that are 1-Lipschitz in the L2 norm; rows and columns beyond the last window go."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class L2NormPool2d(nn.Module):
    """Takes the L2 norm of each 2x2 window (Boureau et al. 2010): images `(B, C, H, W)` to `(B, C, H // 2, W // 2)`.

    The gradient at an all-zero window is 0, where the square root's would be infinite.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        # Squares through the pooling kernel: several times faster than a norm over two strided dimensions.
        squares = 4 * functional.avg_pool2d(x * x, 2)
        positive = squares > 0
        return torch.where(positive, torch.where(positive, squares, 1).sqrt(), 0)


class ScaledAvgPool2d(nn.Module):
    """Averages each 2x2 window and multiplies by 2, the largest factor that keeps it 1-Lipschitz."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, C, H // 2, W // 2)`."""
        return 2 * functional.avg_pool2d(x, 2)
