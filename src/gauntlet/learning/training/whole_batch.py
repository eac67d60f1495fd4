"""Layers that need the whole batch while a pass computes a part of its rows: batch normalization, random draws.

A pass over a part then equals the same rows of a pass over the whole batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of a batch of `total`; rows that are not `counted` are computed and discarded."""

    start: int
    stop: int
    total: int
    counted: bool = True

    def __len__(self) -> int:
        return self.stop - self.start


class Pass(Protocol):
    """Current pass: its rows (None outside of a pass), and sums over the processes that share the batch."""

    rows: Rows | None

    def sum(self, own: Tensor, *, counted: bool) -> Tensor:
        """Return the sum over all processes, differentiable any number of times; own values count if `counted`."""


def normalize_whole_batch(layer: _BatchNorm, current: Pass, x: Tensor) -> Tensor:
    """Normalize `(B, C, ...)` as `layer` does, with the statistics of the rows of all processes.

    Statistics and running statistics are those that torch's layer computes from the whole batch in one process: biased
    variance for the normalization, unbiased for the running variance. torch's `SyncBatchNorm` has the same ones, but no
    implementation for the CPU.
    """
    rows = current.rows
    if rows is None or not (layer.training or layer.running_mean is None):
        forward: Callable[[_BatchNorm, Tensor], Tensor] = type(layer).forward
        return forward(layer, x)
    layer._check_input_dim(x)
    precise = x if x.dtype == torch.float64 else x.float()
    axes = [axis for axis in range(x.dim()) if axis != 1]
    count = x.numel() // x.shape[1] * rows.total // len(rows)
    if count == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(x.shape)}")
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean = current.sum(precise.sum(axes), counted=rows.counted) / count
    centered = precise - mean.view(shape)
    variance = current.sum((centered * centered).sum(axes), counted=rows.counted) / count
    if layer.training and layer.track_running_stats:
        _update_running(layer, mean.detach(), variance.detach() * (count / (count - 1)))
    scale = (variance + layer.eps).rsqrt()
    if layer.affine:
        normalized = centered * (scale * layer.weight).view(shape) + layer.bias.view(shape)
    else:
        normalized = centered * scale.view(shape)
    return normalized.to(x.dtype)


def _update_running(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    if layer.running_mean is None or layer.running_var is None:
        return
    momentum = layer.momentum
    if momentum is None:
        momentum = 1.0 / float(layer.num_batches_tracked)  # type: ignore[arg-type]
    for running, value in ((layer.running_mean, mean), (layer.running_var, variance)):
        running.mul_(1 - momentum).add_(momentum * value)


def draw_whole_batch(layer: nn.Module, current: Pass, x: Tensor, *arguments: Any, **options: Any) -> Any:
    """Apply a layer that draws to `x` `(B, ...)` inside a batch of the full size, whose other rows are zero.

    Its draws are then those that the same generator gives for the whole batch, and the generator ends in the same
    state. The layer must not mix samples.
    """
    rows, forward = current.rows, type(layer).forward
    if rows is None or len(rows) == rows.total or len(x) != len(rows):
        return forward(layer, x, *arguments, **options)
    whole = x.new_zeros((rows.total, *x.shape[1:]))
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        whole = whole.contiguous(memory_format=torch.channels_last)
    whole[rows.start : rows.stop] = x
    return forward(layer, whole, *arguments, **options)[rows.start : rows.stop]
