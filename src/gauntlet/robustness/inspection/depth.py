"""Depth that a signal survives: the scale of the outputs of many layers with random weights.

Source: Le 2019, journal of logic-inspired networks, 5 October: "how many layers one can propagate before the output
explodes. ReLU get past 28 while ReLog went through all 100 layers".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from gauntlet.core.randomness import derive_seed, generator
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.designs import Design

LAYERS = 100
WIDTH = 512

_BATCH = 8


@torch.no_grad()
def output_scales(design: Design, *, layers: int = LAYERS, width: int = WIDTH) -> InspectedArray:
    """Return the root mean squares of the outputs of 0 to `layers` layers, for standard normal inputs: (2, layers + 1).

    Row 0 is for weights of variance 1 and no biases, as in the journal; row 1 for the initial weights of the networks.
    Layers are dense, `width` wide. Outputs that overflow float32 are infinite. `value` is the number of layers after
    which those of row 0 do, null if they never do.
    """
    factory = LayerFactory(unit=design.unit, folding=design.folding, activation=design.activation, centered=False)
    # The moment of the inputs of a layer is that of the activations, and 1 for the first.
    scales = np.stack(
        [
            _scales(factory, lambda layer, _number: _standard_normal(layer), layers, width),
            _scales(
                factory,
                lambda layer, number: factory.initialize(layer, factory.moment if number else 1.0),
                layers,
                width,
            ),
        ]
    )
    overflow = np.flatnonzero(np.isinf(scales[0]))
    return InspectedArray("depth", design.name, scales, value=float(overflow[0]) if len(overflow) else None)


def _scales(
    factory: LayerFactory, initialize: Callable[[nn.Module, int], None], layers: int, width: int
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the root mean squares of the outputs, infinite from the first overflow on; the random state is kept."""
    scales = np.full(layers + 1, np.inf, np.float32)
    x = torch.randn(_BATCH, width, generator=generator("inspect", "depth", "inputs"))
    activation = factory.activation().eval()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed("inspect", "depth", "weights"))
        layer = factory.dense(width, width).eval()
        for number in range(layers + 1):
            # In float64, since squares overflow float32 long before the outputs do.
            scale = float(x.double().square().mean().sqrt())
            if not np.isfinite(scale):
                break
            scales[number] = scale
            if number < layers:
                initialize(layer, number)
                x = activation(layer(x))
    return scales


def _standard_normal(layer: nn.Module) -> None:
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
            nn.init.zeros_(module.bias)
