"""Wide ResNet for small images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.basic_block import PreactivationBlock, conv3x3
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.resnet import residual_groups
from gauntlet.registry import MODELS, PositiveInt

STEM_WIDTH = 16


@MODELS.register(
    "wide_resnet",
    parts=("head", "activation", "unit", "folding"),
    part_options={"head": {"hidden": 0}},
    source="Zagoruyko and Komodakis 2016, arXiv:1605.07146",
)
class WideResNet(Network):
    """Conv3x3(16), three groups of preactivation blocks, normalization, activation, mean over the map, and a head.

    Groups have 16, 32 and 64 channels times `width`, and (depth - 4) / 6 blocks each: WRN-28-10 is `depth: 28`,
    `width: 10`. All groups but the first halve the map. `unit` and `folding` apply to the convolutions of 3x3 and to
    the head, `activation` to all activations. Images may have any size.
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
        unit: Mapping[str, Any] | None = None,
        folding: Mapping[str, Any] | None = None,
        depth: Literal[10, 16, 22, 28, 34, 40, 46, 52, 58, 64, 70, 76, 82, 88, 94, 100, 106] = 28,
        width: PositiveInt = 10,
    ) -> None:
        factory = LayerFactory(unit=unit, folding=folding, activation=activation)
        widths = [STEM_WIDTH * width, 2 * STEM_WIDTH * width, 4 * STEM_WIDTH * width]
        body = nn.Sequential(
            conv3x3(factory, image_shape[0], STEM_WIDTH, 1, moment=1.0),
            *residual_groups(factory, STEM_WIDTH, widths, [(depth - 4) // 6] * 3, PreactivationBlock),
            nn.BatchNorm2d(widths[-1]),
            factory.activation(),
            nn.AdaptiveAvgPool2d(1),
        )
        built = factory.head(head, in_features=widths[-1], num_classes=num_classes, moment=factory.moment)
        super().__init__(normalization=Normalization(mean, std), body=body, head=built)
