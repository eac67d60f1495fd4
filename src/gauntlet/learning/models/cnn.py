"""Small convolutional network with padding and the widths of LeNet, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.initialization import glorot
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, PositiveInt

POOLED_ABOVE = 4


@MODELS.register("cnn", parts=("head",), source="LeCun et al. 1998, with the widths of LeNet in FastEstimator")
class Cnn(Network):
    """For each width: conv3x3 with padding, relu, and maxpool2 if the map is larger than 4x4; then flatten, head."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        head: Mapping[str, Any] | None = None,
        widths: tuple[PositiveInt, ...] = (32, 64, 64),
    ) -> None:
        channels, height, width = image_shape
        if not widths:
            raise InputError("the network has no layers", where="model.widths", remedy="set at least one width")
        layers: list[nn.Module] = []
        for in_channels, out_channels in pairwise((channels, *widths)):
            layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
            if min(height, width) > POOLED_ABOVE:
                # Pooling before relu is the same function, since relu is monotone, with a quarter of relu's work.
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            layers.append(nn.ReLU())
        super().__init__(
            normalization=Normalization(mean, std),
            body=nn.Sequential(*layers),
            head=build_head(head, in_features=widths[-1] * height * width, num_classes=num_classes),
        )
        glorot(self)
