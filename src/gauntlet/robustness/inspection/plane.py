"""Plane through three images: the activation of a unit and the predicted class at every point of it.

Source: Le 2019, journal of logic-inspired networks, 24 October: "Plot activation along two axes: a digit x to a digit y
and the same digit x to digit z".
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.batch_size import BatchSize
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.build import ImportedNetwork
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.interpolation import correct_images

SIDE = 17
"""Number of points along an axis of the plane."""


@torch.no_grad()
def plane(network: Network, test: Split | StoredSplit, device: torch.device) -> list[InspectedArray]:
    """Return activations and classes on the plane x + s (y - x) + t (z - x), s and t in [0, 1], and its corners.

    x, y and z are the first correctly classified images of three classes; with fewer classes, z is another such image.
    `plane` and `decision` are (17, 17), rows by t and columns by s. The unit is the one of the head's inputs, or of the
    logits of a module whose inside is unknown, whose activation at x is highest above those at y and z. Points with
    s + t > 1 may have pixels outside [0, 1]. Without three correctly classified images the result is empty.
    """
    corners = correct_images(network, test, device, count=3)
    if len(corners) < 3:
        return []
    first, second, third = to_unit(test.images[corners]).to(device)
    share = torch.linspace(0, 1, SIDE, device=device)
    to_second, to_third = share[None, :, None, None, None], share[:, None, None, None, None]
    points = (first + to_second * (second - first) + to_third * (third - first)).flatten(0, 1)
    at_corners = _features(network, torch.stack([first, second, third]))
    unit = int((at_corners[0] - at_corners[1:].amax(0)).argmax())

    def at(part: slice) -> Tensor:
        return torch.stack([_features(network, points[part])[:, unit].float(), network(points[part]).argmax(1).float()])

    # A row of points at a time: all of them at once need gigabytes where images are large.
    activations, classes = torch.cat(list(BatchSize(SIDE, device).parts(len(points), at)), 1).reshape(2, SIDE, SIDE)
    return [
        InspectedArray("plane", "features", activations.cpu().numpy(), unit),
        InspectedArray("decision", "logits", classes.cpu().numpy()),
        *(
            InspectedArray("corner", "", image.cpu().numpy(), number, label=int(test.labels[index]))
            for number, (image, index) in enumerate(zip((first, second, third), corners, strict=True))
        ),
    ]


def _features(network: Network, x: Tensor) -> Tensor:
    """Return the inputs of a network's head, `(B, F)`; the logits of a user's module, which may return them by name."""
    outputs = network.outputs(x) if isinstance(network, ImportedNetwork) else network.features(x)
    return outputs.flatten(1)
