"""Leaky activations: how many activations of each layer are weak.

Source: Le 2019, journal of logic-inspired networks, 3 October: "50% of the times, the neuron has a weak activation of
~6% max activation".
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.network import Network
from gauntlet.robustness.inspection.activation_curves import scalar_activations
from gauntlet.robustness.inspection.arrays import InspectedArray

WEAK = 0.1
"""Fraction of a unit's largest activation up to which an activation is weak."""

STEPS = 20
MOST_IMAGES = 128

_MOST_PIXELS = 2**18


def leaky_activations(network: Network, test: Split | StoredSplit, device: torch.device) -> list[InspectedArray]:
    """Return, per activation layer, the share of activations at or below 0, 1/20, ..., 1 of the unit's largest, (21,).

    A unit is a channel (dimension 1); its activations are those at all positions, on the first 128 test images (fewer
    if these are large). `start` is the share of activations that are zero or negative, `value` the share that is weak:
    positive, but at most a tenth of the unit's largest. Units that are never positive are left out, layers of only such
    units too. Layers are those of `scalar_activations`; a module that is used several times has all its activations.
    """
    _, height, width = test.image_shape
    images = to_unit(test.images[: min(MOST_IMAGES, max(8, _MOST_PIXELS // (height * width)))]).to(device)
    outputs: dict[str, dict[int, list[Tensor]]] = {}

    def keep(layer: str, output: Tensor) -> None:
        # A copy, since a later layer may write into the output. Layers of other widths may share a module.
        activations = output.detach().transpose(0, 1).flatten(1).to(torch.float32, copy=True)  # (R, M)
        outputs.setdefault(layer, {}).setdefault(len(activations), []).append(activations)

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, layer=layer: keep(layer, output))
        for layer, module, _ in scalar_activations(network, torch.arange(-2.0, 3.0, device=device))
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
    arrays = []
    for number, (layer, by_width) in enumerate(outputs.items()):
        relative = torch.cat([_relative(torch.cat(parts, 1)) for parts in by_width.values()])
        if len(relative):
            steps = (relative.clamp(min=0) * STEPS).ceil().to(torch.int64)
            shares = steps.bincount(minlength=STEPS + 1).cumsum(0).double() / len(relative)
            zero, weak = shares[0], shares[round(WEAK * STEPS)] - shares[0]
            values = shares.float().cpu().numpy()
            arrays.append(InspectedArray("activity", layer, values, number, start=float(zero), value=float(weak)))
    return arrays


def _relative(activations: Tensor) -> Tensor:
    """Return activations `(R, M)` over the largest of their unit, in one row, without units that are never positive."""
    largest = activations.amax(1, keepdim=True)
    return (activations / largest)[largest[:, 0] > 0].flatten()
