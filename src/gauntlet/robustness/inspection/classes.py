"""What excites the score of a class."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.excitation import excite

MOST_CLASSES = 10


def exciting_classes(network: Network, shape: Sequence[int], device: torch.device) -> list[InspectedArray]:
    """Find, for each of the first ten classes, an image that raises its logit; see `excite`."""
    count = min(MOST_CLASSES, network(torch.zeros(1, *shape, device=device)).shape[1])
    values = torch.Size(shape).numel()
    excited = excite(network, count, shape, values=values, device=device)
    return [
        InspectedArray(
            "class",
            "logits",
            image.cpu().numpy(),
            number,
            label=number,
            start=float(excited.start[number]),
            value=float(excited.value[number]),
        )
        for number, image in enumerate(excited.images)
    ]
