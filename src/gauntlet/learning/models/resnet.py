"""ResNet for small images, with activations after or before the convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.basic_block import BasicBlock, PreactivationBlock, conv3x3
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, PositiveFloat

BLOCKS: Mapping[int, tuple[int, ...]] = MappingProxyType({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)})
"""Number of blocks in each group, by depth."""

WIDTHS = (64, 128, 256, 512)


@MODELS.register(
    "resnet",
    parts=("head", "activation", "unit", "folding"),
    part_options={"head": {"hidden": 0}},
    source="He et al. 2016, arXiv:1512.03385 and arXiv:1603.05027, in the form for CIFAR of Rice et al. 2020",
)
class ResNet(Network):
    """Conv3x3 without pooling, four groups of residual blocks with 64 to 512 channels, mean over the map, and a head.

    All groups but the first halve the map. With `preactivation` blocks start with normalization and activation (PreAct
    ResNet), and both also follow the last block, unless `last_norm` is off (as in code that has 11 171 146 parameters).
    `unit` and `folding` apply to the convolutions of 3x3 and to the head, `activation` to all activations. `capacity`
    multiplies the widths. Images may have any size.
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
        depth: Literal[18, 34] = 18,
        preactivation: bool = False,
        last_norm: bool = True,
        capacity: PositiveFloat = 1.0,
    ) -> None:
        factory = LayerFactory(unit=unit, folding=folding, activation=activation)
        widths = [max(1, int(width * capacity)) for width in WIDTHS]
        stem = conv3x3(factory, image_shape[0], widths[0], 1, moment=1.0)
        layers: list[nn.Module] = [stem]
        if not preactivation:
            layers += [nn.BatchNorm2d(widths[0]), factory.activation()]
        layers += residual_groups(
            factory, widths[0], widths, BLOCKS[depth], PreactivationBlock if preactivation else BasicBlock
        )
        if preactivation and last_norm:
            layers += [nn.BatchNorm2d(widths[-1]), factory.activation()]
        # The mean of a whole map has a deterministic gradient, unlike pooling to larger sizes.
        layers.append(nn.AdaptiveAvgPool2d(1))
        built = factory.head(head, in_features=widths[-1], num_classes=num_classes, moment=factory.moment)
        super().__init__(normalization=Normalization(mean, std), body=nn.Sequential(*layers), head=built)


def residual_groups(
    factory: LayerFactory,
    in_channels: int,
    widths: Sequence[int],
    counts: Sequence[int],
    block: type[BasicBlock | PreactivationBlock],
) -> list[nn.Module]:
    """Build groups of `counts` blocks with `widths` channels; the first block of each later group halves the map."""
    blocks: list[nn.Module] = []
    for group, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for number in range(count):
            blocks.append(block(factory, in_channels, width, 2 if group and number == 0 else 1))
            in_channels = width
    return blocks
