"""Small network of the logic-inspired experiments on MNIST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import MaxPool2d
from gauntlet.learning.models.network import Network
from gauntlet.registry import MODELS, PositiveInt

SMALLEST_SIDE = 4


@MODELS.register(
    "mnist_cnn",
    parts=("head", "activation", "unit", "folding"),
    part_options={"head": {"hidden": 0}},
    smallest_side=4,
    source="Le 2019, journal of logic-inspired networks",
)
class MnistCnn(Network):
    """Twice conv5x5 with padding, maxpool2, activation; flatten, and a head without hidden layer: dense(K).

    `unit` and `folding` apply to all three layers, `activation` to the convolutions and to a hidden layer of the head.
    Pooling before the activation is the same function for a monotone activation, with a quarter of its work.
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
        widths: tuple[PositiveInt, PositiveInt] = (16, 32),
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < SMALLEST_SIDE:
            problem = f"needs images of 4x4 pixels or more, these are {height}x{width}"
            raise InputError(problem, where="model.name", remedy="use `cnn`")
        factory = LayerFactory(unit=unit, folding=folding, activation=activation)
        layers: list[nn.Module] = []
        for number, (in_channels, out_channels) in enumerate(pairwise((channels, *widths))):
            conv = factory.conv(in_channels, out_channels, 5)
            factory.initialize(conv, factory.moment if number else 1.0)
            layers += [*conv, MaxPool2d(), factory.activation()]
        in_features = widths[-1] * (height // 4) * (width // 4)
        built = factory.head(head, in_features=in_features, num_classes=num_classes, moment=factory.moment)
        super().__init__(normalization=Normalization(mean, std), body=nn.Sequential(*layers), head=built)
