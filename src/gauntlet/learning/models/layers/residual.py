"""Residual connection that is a weighted mean, with the Lipschitz constant of its layers or 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mixture(nn.Module):
    """s x + (1 - s) y with s the sigmoid of `alpha`: deel-torchlip's `LipResidual` as a plain layer."""

    alpha: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Mix two tensors of one shape."""
        share = torch.sigmoid(self.alpha)
        mixed: Tensor = share * x + (1 - share) * y
        return mixed


def build_residual() -> nn.Module:
    """Build deel-torchlip's layer, whose share of the input is trained and starts at one half."""
    from deel.torchlip import LipResidual

    layer: nn.Module = LipResidual()
    return layer


class ResidualBlock(nn.Module):
    """Mixture of the input and of the outputs of layers, which have the same shape."""

    def __init__(self, layers: nn.Sequential, mixture: nn.Module) -> None:
        super().__init__()
        self.layers, self.mixture = layers, mixture

    @property
    def share(self) -> float:
        """Share of the input in the output, in [0, 1]."""
        alpha: Tensor = self.mixture.alpha  # type: ignore[assignment]
        return float(alpha.detach().double().sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, ...)` to the same shape."""
        mixed: Tensor = self.mixture(x, self.layers(x))
        return mixed
