"""First layer with weights: its filters as small images, and images that maximize its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.learning.models.network import Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.learning.models.units.spherical import Spherical
from gauntlet.robustness.inspection.activation_maximization import GRAY, maximize_responses
from gauntlet.robustness.inspection.arrays import InspectedArray

MAX_FILTERS = 32
MAX_UNITS = 8

_LAYERS = (nn.Conv2d, nn.Linear, SecondOrder, Spherical)


def first_layer_arrays(layer: FirstLayer | None, shape: Sequence[int], device: torch.device) -> list[InspectedArray]:
    """Return the weights of the first 32 units of the first layer, and images (C, H, W) that maximize the first 8.

    The layer is the first convolution or dense layer that an image passes. The response of a unit is its output before
    folding and activation, with squared inputs where it has them; for a convolution, the one in the middle of the map.
    Images are cropped to the pixels that these units see. A layer whose weights are not images has no filters; a
    network without such a layer has no arrays.
    """
    if layer is None:
        return []
    weight = layer.linear.weight.detach()
    count = min(MAX_UNITS, len(weight))
    maximizing = maximize_responses(layer.responses, count, shape, values=weight[0].numel(), device=device)
    images = maximizing.images[(..., *_seen_pixels(maximizing.images))]
    filters = _as_images(weight[:MAX_FILTERS], shape)
    return [
        *(InspectedArray("filter", layer.name, each.cpu().numpy(), number) for number, each in enumerate(filters)),
        *(
            InspectedArray(
                "unit",
                layer.name,
                image.cpu().numpy(),
                number,
                start=float(maximizing.start[number]),
                value=float(maximizing.value[number]),
            )
            for number, image in enumerate(images)
        ),
    ]


class _Stopped(Exception):
    """Raised to end a forward pass after the layer."""


@dataclass(frozen=True)
class FirstLayer:
    """A layer of a network by its name; `module` may be the unit around the linear layer that has the weights."""

    network: Network
    name: str
    module: nn.Conv2d | nn.Linear | SecondOrder | Spherical

    @property
    def linear(self) -> nn.Conv2d | nn.Linear:
        """The layer itself, or the linear part of one with squared inputs."""
        return self.module.linear if isinstance(self.module, SecondOrder | Spherical) else self.module

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return input and output of the layer for images `(B, C, H, W)`; later layers are not computed."""
        found: list[tuple[Tensor, Tensor]] = []

        def stop(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found.append((inputs[0], output))
            raise _Stopped

        handle = self.module.register_forward_hook(stop)
        try:
            self.network(x)
        except _Stopped:
            pass
        finally:
            handle.remove()
        return found[0]

    def responses(self, x: Tensor) -> Tensor:
        """Return the responses `(B, R)` of the units to images `(B, C, H, W)`, in the middle of a map or a sequence."""
        output = self.run(x)[1]
        if isinstance(self.linear, nn.Conv2d):
            return output[:, :, output.shape[2] // 2, output.shape[3] // 2]
        positions = output.reshape(len(output), -1, output.shape[-1])
        return positions[:, positions.shape[1] // 2]


def find_first_layer(network: Network, shape: Sequence[int], device: torch.device) -> FirstLayer | None:
    """Find the first convolution or dense layer that an image of `shape` (C, H, W) passes; None without any."""
    names = {module: name for name, module in network.named_modules() if isinstance(module, _LAYERS)}
    passed: list[nn.Conv2d | nn.Linear | SecondOrder | Spherical] = []
    handles = [module.register_forward_pre_hook(lambda layer, inputs: passed.append(layer)) for module in names]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return FirstLayer(network, names[passed[0]], passed[0]) if passed else None


def _as_images(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """Return weights as `(R, C, h, w)`; none for a dense layer that does not see exactly the image's pixels."""
    if weight.dim() == 4:
        return weight
    fits = weight.shape[1] == torch.Size(shape).numel()
    return weight.reshape(-1, *shape) if fits else weight.new_empty(0, *shape)


def _seen_pixels(images: Tensor) -> tuple[slice, slice]:
    """Return the rows and columns in which any of the images `(R, C, H, W)` differs from gray; all if none does."""
    changed = (images != GRAY).any(0).any(0)
    return _extent(changed.any(1)), _extent(changed.any(0))


def _extent(changed: Tensor) -> slice:
    indices = changed.nonzero().flatten().tolist() or [0, len(changed) - 1]
    return slice(indices[0], indices[-1] + 1)
