"""Inspection of one network."""

from __future__ import annotations

import torch

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.randomness import derive_seed
from gauntlet.core.seeding import seeded
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.activation_curves import activation_curves
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.class_images import class_images
from gauntlet.robustness.inspection.first_layer import first_layer_arrays
from gauntlet.robustness.inspection.interpolation import interpolate


@float32_arithmetic()
def inspect_network(network: Network, test: Split, *, device: torch.device) -> list[InspectedArray]:
    """Inspect a network, in evaluation mode on `device`: activation functions, first layer, classes, an interpolation.

    Kinds of arrays that do not apply to the network are left out. A random network is seeded.
    """
    with seeded(derive_seed("inspect"), device):
        return [
            *activation_curves(network, device),
            *first_layer_arrays(network, test.image_shape, device),
            *class_images(network, test.image_shape, device),
            *interpolate(network, test, device),
        ]
