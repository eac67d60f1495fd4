"""Linear interpolation between two images of different classes, and the network's probabilities along it."""

from __future__ import annotations

import torch

from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.judge import Judge, class_probabilities

POINTS = 33
IMAGES = 5

_BATCH = 256


@torch.no_grad()
def interpolate(network: Network, test: Split | StoredSplit, device: torch.device) -> list[InspectedArray]:
    """Return the probability of every class at 33 points between two test images, and five of the interpolated images.

    The two are the first correctly classified image and the first such image of another class; without two, the result
    is empty.
    """
    ends = correct_images(network, test, device, count=2)
    if len(set(test.labels[ends].tolist())) < 2:
        return []
    first, last = to_unit(test.images[ends]).to(device)
    weights = torch.linspace(0, 1, POINTS, device=device)
    line = torch.lerp(first, last, weights[:, None, None, None])
    probabilities = class_probabilities(network, network(line)).T.cpu()
    labels = dict(zip((0, IMAGES - 1), test.labels[ends].tolist(), strict=True))
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


def correct_images(network: Network, test: Split | StoredSplit, device: torch.device, *, count: int) -> list[int]:
    """Return the indices of the first correctly classified image of each of `count` classes, in the order found.

    If fewer classes have any, other correctly classified images follow, the lowest indices first; there may be fewer
    than `count`.
    """
    judge = Judge(network, device=device)
    first: dict[int, int] = {}
    others: list[int] = []
    for start in range(0, len(test), _BATCH):
        part = slice(start, start + _BATCH)
        predictions = judge.logits(to_unit(test.images[part])).argmax(1).cpu()
        for row in (predictions == test.labels[part]).nonzero().flatten().tolist():
            label, index = int(test.labels[start + row]), start + row
            if label in first:
                others.append(index)
            else:
                first[label] = index
            if len(first) == count:
                return list(first.values())
    return [*first.values(), *others][:count]
