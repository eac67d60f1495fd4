"""Batch normalization with one scale for all channels (deel-torchlip's BatchLipNorm), and its plain form."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CenteredScale(nn.Module):
    """(x - mean) scale + bias with one scale `()` for all channels: the form of `BatchLipNorm` in evaluation.

    Its Lipschitz constant is the scale.
    """

    mean: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("bias", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        mean, bias = self.mean.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        return (x - mean) * self.scale + bias


def batch_lip_norm(channels: int) -> nn.Module:
    """Build deel-torchlip's layer, whose scale is 1 over the standard deviation of the channel that varies most.

    In training it is that of the batch, in evaluation that of the epoch's batches.
    """
    from deel.torchlip import BatchLipNorm

    layer: nn.Module = BatchLipNorm(channels)
    # The layer would otherwise reset its statistics in the first step after a training is resumed.
    layer._first = False  # type: ignore[assignment]
    return layer


def is_batch_lip_norm(layer: nn.Module) -> bool:
    """Return whether a layer is deel-torchlip's."""
    return hasattr(layer, "update_running_values") and hasattr(layer, "get_scaling")


@torch.no_grad()
def settle(layer: nn.Module) -> CenteredScale:
    """Average the statistics of the finished epoch, as the layer does in evaluation, and return its plain form."""
    module: nn.Module = layer
    mean: Tensor = module._get_mean_and_update(training=False)  # type: ignore[operator]
    plain = CenteredScale(len(mean)).to(mean.device)
    plain.mean.copy_(mean)
    plain.scale.copy_(module.get_scaling(training=False))  # type: ignore[operator]
    plain.bias.copy_(module.bias)  # type: ignore[arg-type]
    return plain
