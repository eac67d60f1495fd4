"""VGG for small images, optionally with layers of the logic-inspired experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, NonNegativeInt, PositiveFloat

WIDTHS: Mapping[int, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        3: ((64,), (128,), (256,), (), ()),
        4: ((64,), (128,), (256, 256), (), ()),
        11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
        13: ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
        16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
        19: ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
    }
)
"""Widths of the convolutions before each of the five poolings; depths 3 and 4 are the journal's."""

BATCH_NORM_MOMENTUM = 0.01
"""Momentum of the running statistics, as in the journal."""


@MODELS.register(
    "vgg",
    parts=("head", "activation", "unit", "folding"),
    part_options={"head": {"hidden": 0}},
    last_layer={3: 3, 4: 4, 11: 8, 13: 10, 16: 13, 19: 16},
    source="Simonyan and Zisserman 2015, arXiv:1409.1556; Le 2019, journal of logic-inspired networks",
)
class Vgg(Network):
    """Conv3x3 with padding and activation, maxpool2 after each of five groups; flatten, and a head: dense(K).

    `depth` is that of the papers, whose networks have two more dense layers than this form for small images. Layers are
    numbered from 0, the convolutions in order and then the head. `activation`, `unit` and `folding` apply to the layers
    from `first_modified` to `last_modified` (default: the head); the others are linear with relu. `capacity` multiplies
    the widths of the convolutions. With `batch_norm` each activation is followed by batch normalization. Maps of one
    row or column are not pooled further, so that images may have any size.
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
        depth: Literal[3, 4, 11, 13, 16, 19] = 16,
        batch_norm: bool = False,
        capacity: PositiveFloat = 1.0,
        first_modified: NonNegativeInt = 0,
        last_modified: NonNegativeInt | None = None,
    ) -> None:
        in_channels, height, width = image_shape
        output = sum(map(len, WIDTHS[depth]))
        last = output if last_modified is None else last_modified
        if not first_modified <= last <= output:
            problem = (
                f"vgg of depth {depth} has layers 0 to {output}, but {first_modified} to {last} are to be modified"
            )
            raise InputError(problem, where="model.first_modified", remedy=f"choose 0 <= first <= last <= {output}")
        # Without batch normalization the biases of centered layers would let activations explode over sixteen layers.
        plain = LayerFactory()
        modified = LayerFactory(unit=unit, folding=folding, activation=activation, centered=batch_norm)
        factories = [modified if first_modified <= number <= last else plain for number in range(output + 1)]
        layers: list[nn.Module] = []
        number, moment = 0, 1.0
        for group in WIDTHS[depth]:
            for published_width in group:
                out_channels, factory = max(1, int(published_width * capacity)), factories[number]
                conv = factory.conv(in_channels, out_channels, 3)
                factory.initialize(conv, moment)
                layers += [*conv, factory.activation()]
                if batch_norm:
                    # After the activation, as in the journal.
                    layers.append(nn.BatchNorm2d(out_channels, momentum=BATCH_NORM_MOMENTUM))
                number, moment, in_channels = number + 1, 1.0 if batch_norm else factory.moment, out_channels
            if min(height, width) > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        in_features = in_channels * height * width
        built = factories[-1].head(head, in_features=in_features, num_classes=num_classes, moment=moment)
        super().__init__(normalization=Normalization(mean, std), body=nn.Sequential(*layers), head=built)
