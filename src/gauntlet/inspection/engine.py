"""Everything that is shown of one network, in the order of the table."""

from __future__ import annotations

import torch

from gauntlet.data.splits import Split
from gauntlet.exhibits import Exhibit
from gauntlet.inspection.activations import activations
from gauntlet.inspection.classes import exciting_classes
from gauntlet.inspection.transition import transition
from gauntlet.inspection.units import first_layer
from gauntlet.models.network import Network
from gauntlet.randomness import derive_seed
from gauntlet.subject import seeded


def inspect(network: Network, test: Split, *, device: torch.device) -> list[Exhibit]:
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
