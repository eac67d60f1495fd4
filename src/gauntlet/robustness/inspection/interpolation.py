"""Linear interpolation between two images of different classes, and the network's probabilities along it."""

from __future__ import annotations

import torch

from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.judge import Judge, class_probabilities

POINTS = 33
IMAGES = 5

_BATCH = 256


@torch.no_grad()
def interpolate(network: Network, test: Split, device: torch.device) -> list[InspectedArray]:
    """Return the probability of every class at 33 points between two test images, and five of the interpolated images.

    The two are the first correctly classified image and the first such image of another class; without two, the result
    is empty.
    """
    ends = _end_images(network, test, device)
    if ends is None:
        return []
    first, last = to_unit(test.images[list(ends)]).to(device)
    weights = torch.linspace(0, 1, POINTS, device=device)
    line = torch.lerp(first, last, weights[:, None, None, None])
    probabilities = class_probabilities(network, network(line)).T.cpu()
    labels = dict(zip((0, IMAGES - 1), test.labels[list(ends)].tolist(), strict=True))
    every = (POINTS - 1) // (IMAGES - 1)
    return [
        InspectedArray("transition", "probabilities", probabilities.numpy()),
        *(
            InspectedArray(
                "step", "", line[point].cpu().numpy(), number, label=labels.get(number), value=float(weights[point])
            )
            for number, point in enumerate(range(0, POINTS, every))
        ),
    ]


def _end_images(network: Network, test: Split, device: torch.device) -> tuple[int, int] | None:
    """Find the first two images that are classified correctly and differ in class."""
    judge = Judge(network, device=device)
    first: int | None = None
    for start in range(0, len(test), _BATCH):
        part = slice(start, start + _BATCH)
        predictions = judge.logits(to_unit(test.images[part])).argmax(1).cpu()
        for row in (predictions == test.labels[part]).nonzero().flatten().tolist():
            if first is None:
                first = start + row
            elif test.labels[start + row] != test.labels[first]:
                return first, start + row
    return None
