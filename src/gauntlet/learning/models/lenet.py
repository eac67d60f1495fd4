"""LeNet of the error-correcting-code experiments: three convolutions without padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.activations import build_activation
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.initialization import glorot
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, PositiveInt

SMALLEST_SIDE = 18


@MODELS.register(
    "lenet", parts=("head", "activation"), smallest_side=18, source="LeCun et al. 1998, as in FastEstimator"
)
class LeNet(Network):
    """Conv3x3, relu, maxpool2, conv3x3, relu, maxpool2, conv3x3, relu, flatten, head; for images from 18x18.

    `activation` replaces relu, in the head too (elu in FastEstimator's PyTorch script). It follows the pooling, which
    is the same for a monotone function.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        head: Mapping[str, Any] | None = None,
        activation: Mapping[str, Any] | None = None,
        widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 64, 64),
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < SMALLEST_SIDE:
            smallest = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}"
            problem = f"lenet has no padding and needs images of {smallest} pixels or more, these are {height}x{width}"
            raise InputError(problem, where="model.name", remedy="use `cnn`")
        first, second, third = widths
        # Pooling before a monotone activation is the same function, with a quarter of the activation's work.
        body = nn.Sequential(
            nn.Conv2d(channels, first, 3),
            nn.MaxPool2d(2),
            build_activation(activation),
            nn.Conv2d(first, second, 3),
            nn.MaxPool2d(2),
            build_activation(activation),
            nn.Conv2d(second, third, 3),
            build_activation(activation),
        )
        in_features = third * _side(height) * _side(width)
        super().__init__(
            normalization=Normalization(mean, std),
            body=body,
            head=build_head(
                head,
                in_features=in_features,
                num_classes=num_classes,
                activation=lambda: build_activation(activation),
            ),
        )
        glorot(self)
        self._used = (_used(height), _used(width))

    def features(self, x: Tensor) -> Tensor:
        """Map images to the features `(B, F)` that the head receives.

        Rows and columns that reach no pooling window are cropped first, which saves a seventh of the work on 32x32.
        """
        rows, columns = self._used
        return super().features(x[:, :, :rows, :columns])


def _side(pixels: int) -> int:
    return ((pixels - 2) // 2 - 2) // 2 - 2


def _used(pixels: int) -> int:
    """Return how many of `pixels` rows the features depend on: the smallest size with an equal `_side`."""
    return ((_side(pixels) + 2) * 2 + 2) * 2 + 2
