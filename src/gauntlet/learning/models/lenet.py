"""LeNet as in the error-correcting-code experiments: three unpadded convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.initialization import glorot
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, PositiveInt

SMALLEST_SIDE = 18


@MODELS.register("lenet", parts=("head",), source="LeCun et al. 1998, in the form of the FastEstimator library")
class LeNet(Network):
    """Conv3x3, relu, maxpool2, conv3x3, relu, maxpool2, conv3x3, relu, flatten, head; no padding, so 18x18 or more."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        head: Mapping[str, Any] | None = None,
        widths: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 64, 64),
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < SMALLEST_SIDE:
            problem = (
                f"lenet does not pad and needs images of {SMALLEST_SIDE}x{SMALLEST_SIDE}, these are {height}x{width}"
            )
            raise InputError(problem, where="model.name", remedy="use `cnn`")
        first, second, third = widths
        # Pooled before relu: the same function, since relu is monotone, at a quarter of relu's work.
        body = nn.Sequential(
            nn.Conv2d(channels, first, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(second, third, 3),
            nn.ReLU(),
        )
        in_features = third * _side(height) * _side(width)
        super().__init__(
            normalization=Normalization(mean, std),
            body=body,
            head=build_head(head, in_features=in_features, num_classes=num_classes),
        )
        glorot(self)
        self._seen = (_seen(height), _seen(width))

    def features(self, x: Tensor) -> Tensor:
        """Map images to what the head sees: `(B, F)`.

        A last row or column that a pooling leaves over decides nothing; it is cut off the images, which saves a seventh
        of the work on 32x32.
        """
        rows, columns = self._seen
        return super().features(x[:, :, :rows, :columns])


def _side(pixels: int) -> int:
    return ((pixels - 2) // 2 - 2) // 2 - 2


def _seen(pixels: int) -> int:
    """Give how many of `pixels` reach the features: `_side` the other way round."""
    return ((_side(pixels) + 2) * 2 + 2) * 2 + 2
