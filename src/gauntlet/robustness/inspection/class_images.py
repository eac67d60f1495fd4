"""Images that maximize the logits of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.activation_maximization import maximize_responses
from gauntlet.robustness.inspection.arrays import InspectedArray

MAX_CLASSES = 10


def class_images(network: Network, shape: Sequence[int], device: torch.device) -> list[InspectedArray]:
    """Find an image that raises the logit of each of the first ten classes; see `maximize_responses`."""
    count = min(MAX_CLASSES, network(torch.zeros(1, *shape, device=device)).shape[1])
    values = torch.Size(shape).numel()
    maximizing = maximize_responses(network, count, shape, values=values, device=device)
    return [
        InspectedArray(
            "class",
            "logits",
            image.cpu().numpy(),
            number,
            label=number,
            start=float(maximizing.start[number]),
            value=float(maximizing.value[number]),
        )
        for number, image in enumerate(maximizing.images)
    ]
