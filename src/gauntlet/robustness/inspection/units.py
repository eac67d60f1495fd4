"""The first layer with weights: its filters as small images, and what excites its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.excitation import GREY, excite

MOST_FILTERS = 32
MOST_UNITS = 8

_LAYERS = (nn.Conv2d, nn.Linear, SecondOrder)


def first_layer(network: Network, shape: Sequence[int], device: torch.device) -> list[InspectedArray]:
    """Show the weights of the first 32 units of the first layer, and what excites the first 8, for images (C, H, W).

    The layer is the first convolution or dense layer that an image passes. A unit responds before folding and
    activation, with squared inputs where it has them; that of a convolution in the middle of its map. What is shown of
    an exciting image are the pixels that the shown units see. A layer whose weights are no images gives no filters, a
    network without such a layer nothing.
    """
    layer = _find(network, shape, device)
    if layer is None:
        return []
    weight = layer.linear.weight.detach()
    count = min(MOST_UNITS, len(weight))
    excited = excite(layer.responses, count, shape, values=weight[0].numel(), device=device)
    images = excited.images[(..., *_seen(excited.images))]
    filters = _as_images(weight[:MOST_FILTERS], shape)
    return [
        *(InspectedArray("filter", layer.name, one.cpu().numpy(), number) for number, one in enumerate(filters)),
        *(
            InspectedArray(
                "unit",
                layer.name,
                image.cpu().numpy(),
                number,
                start=float(excited.start[number]),
                value=float(excited.value[number]),
            )
            for number, image in enumerate(images)
        ),
    ]


@dataclass(frozen=True)
class _Layer:
    """A layer of a network by its name; `module` may be the unit around the linear layer that has the weights."""

    network: Network
    name: str
    module: nn.Conv2d | nn.Linear | SecondOrder

    @property
    def linear(self) -> nn.Conv2d | nn.Linear:
        """The layer itself, or the linear part of one with squared inputs."""
        return self.module.linear if isinstance(self.module, SecondOrder) else self.module

    def responses(self, x: Tensor) -> Tensor:
        """Give the responses `(B, R)` of the units to images `(B, C, H, W)`, in the middle of a map or a sequence."""
        passed: list[Tensor] = []
        handle = self.module.register_forward_hook(lambda module, inputs, output: passed.append(output))
        try:
            self.network(x)
        finally:
            handle.remove()
        output = passed[0]
        if isinstance(self.linear, nn.Conv2d):
            return output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        places = output.reshape(len(output), -1, output.shape[-1])
        return places[:, places.shape[1] // 2]


def _find(network: Network, shape: Sequence[int], device: torch.device) -> _Layer | None:
    """Find the first layer that an image passes."""
    names = {one: name for name, one in network.named_modules() if isinstance(one, _LAYERS)}
    passed: list[nn.Conv2d | nn.Linear | SecondOrder] = []
    handles = [one.register_forward_pre_hook(lambda module, inputs: passed.append(module)) for one in names]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return _Layer(network, names[passed[0]], passed[0]) if passed else None


def _as_images(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Give weights as `(R, C, h, w)`; none where those of a dense layer are not those of the image's pixels."""
    if weight.dim() == 4:
        return weight
    fits = weight.shape[1] == torch.Size(shape).numel()
    return weight.reshape(-1, *shape) if fits else weight.new_empty(0, *shape)


def _seen(images: Tensor) -> tuple[slice, slice]:
    """Frame what differs from grey in any of the images `(R, C, H, W)`; all where nothing does."""
    changed = (images != GREY).any(0).any(0)
    return _extent(changed.any(1)), _extent(changed.any(0))


def _extent(changed: Tensor) -> slice:
    places = changed.nonzero().flatten().tolist() or [0, len(changed) - 1]
    return slice(places[0], places[-1] + 1)
