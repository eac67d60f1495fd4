"""Everything that is shown of one network, in the order of the table."""

from __future__ import annotations

import torch

from gauntlet.core.randomness import derive_seed
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.activations import activations
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.classes import exciting_classes
from gauntlet.robustness.inspection.transition import transition
from gauntlet.robustness.inspection.units import first_layer
from gauntlet.robustness.judge import seeded


def inspect(network: Network, test: Split, *, device: torch.device) -> list[InspectedArray]:
    """Show a network, in evaluation mode on `device`: its activations, first layer, class scores, and a transition.

    What it has nothing of is left out. A network that draws at random draws from a seed of its own.
    """
    with seeded(derive_seed("inspect"), device):
        return [
            *activations(network, device),
            *first_layer(network, test.image_shape, device),
            *exciting_classes(network, test.image_shape, device),
            *transition(network, test, device),
        ]
