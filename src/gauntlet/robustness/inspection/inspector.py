"""Inspection of one network."""

from __future__ import annotations

import torch

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.randomness import derive_seed
from gauntlet.core.recurrent import recurrent_gradients
from gauntlet.core.seeding import seeded
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.activation_curves import activation_curves
from gauntlet.robustness.inspection.activity import leaky_activations
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.class_images import class_images
from gauntlet.robustness.inspection.depth import output_scales
from gauntlet.robustness.inspection.designs import design_of
from gauntlet.robustness.inspection.first_layer import find_first_layer, first_layer_arrays
from gauntlet.robustness.inspection.interpolation import interpolate
from gauntlet.robustness.inspection.patches import exciting_patches
from gauntlet.robustness.inspection.plane import plane
from gauntlet.robustness.inspection.unit_maps import unit_maps


@float32_arithmetic()
def inspect_network(network: Network, test: Split | StoredSplit, *, device: torch.device) -> list[InspectedArray]:
    """Inspect a network, in evaluation mode on `device`: activations, first layer, classes, lines and planes of images.

    Kinds of arrays that do not apply to the network are left out. A random network is seeded.
    """
    shape = test.image_shape
    with seeded(derive_seed("inspect"), device), recurrent_gradients(network):
        layer = find_first_layer(network, shape, device)
        return [
            *activation_curves(network, device),
            *leaky_activations(network, test, device),
            *first_layer_arrays(layer, shape, device),
            *exciting_patches(layer, test, device),
            *class_images(network, shape, device),
            *interpolate(network, test, device),
            *plane(network, test, device),
            *_design_arrays(network),
        ]


def _design_arrays(network: Network) -> list[InspectedArray]:
    """Return what depends on the kind of the layers alone, not on trained weights."""
    design = design_of(network.description.architecture) if network.description else None
    return [] if design is None else [output_scales(design), *unit_maps(design)]
