"""Input normalization as the first layer, so that data, attacks and certificates use pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError

_CHOICES = "choose data, none, or {mean: [...], std: [...]}"


Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel; a single value holds for all channels."""


def input_statistics(data: Statistics, normalize: str | Statistics) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel for the first layer of a network.

    `data` are the statistics of the data set; `normalize` is ``data``, ``none`` for the identity, or statistics of its
    own. Raises InputError for another number of channels, or a standard deviation that is not positive.
    """
    channels = len(data[0])
    if normalize == "data":
        mean, std = data
    elif normalize == "none":
        mean, std = (0.0,), (1.0,)
    elif isinstance(normalize, str):
        raise InputError(f"unknown normalization {normalize!r}", where="normalize", remedy=_CHOICES)
    else:
        mean, std = normalize
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            problem = f"{len(values)} values of {name}, but the images have {channels} channels"
            raise InputError(problem, where="normalize", remedy="give one value, or one for each channel")
    if min(std) <= 0:
        raise InputError(f"a standard deviation of {min(std):g}", where="normalize.std", remedy="give positive numbers")
    return tuple(mean) * (channels // len(mean)), tuple(std) * (channels // len(std))


class Normalization(nn.Module):
    """Subtraction of `mean` and division by `std` per channel, for images `(B, C, H, W)` in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to normalized images of the same shape."""
        return (x - self.mean) / self.std
