"""Patches of data that excite the units of the first layer most, and the distinct patterns among them.

Source: Le 2019, journal of logic-inspired networks, 3 October: the weights of a unit are the average of a few patterns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gauntlet.core.randomness import generator
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.robustness.inspection.arrays import InspectedArray
from gauntlet.robustness.inspection.first_layer import MAX_UNITS, FirstLayer

SHARE = 0.01
"""Share of the patches, those with the highest responses."""

PATTERNS = 4
MOST_IMAGES = 1000

_MOST_RESPONSES = 2_000_000
_BATCH = 250
_ITERATIONS = 20


@torch.no_grad()
def exciting_patches(layer: FirstLayer | None, test: Split | StoredSplit, device: torch.device) -> list[InspectedArray]:
    """Return, for each of the first 8 units, the mean of the top patches and up to four patterns that occur in them.

    Patches `(C, h, w)` are windows of test images, in [0, 1], that lie inside the image; those whose response is among
    the highest 1 % are the top. They are divided into four groups by k-means; of each group the patch nearest to its
    mean is returned, the largest group first, with the share of the top patches that the group has. The result is empty
    if the layer does not see the pixels of images.
    """
    if layer is None or not _sees_pixels(layer, test, device):
        return []
    windows = _Windows.of(layer.linear, test.image_shape)
    positions = len(windows.rows) * len(windows.columns)
    if not positions:
        return []
    count = min(MOST_IMAGES, len(test), max(1, _MOST_RESPONSES // positions))
    images = to_unit(test.images[:count])
    units = min(MAX_UNITS, len(layer.linear.weight))
    responses = torch.cat(
        [windows.inside(layer.run(part.to(device))[1])[:, :units].float().cpu() for part in images.split(_BATCH)]
    )  # (N, U, rows, columns)
    arrays: list[InspectedArray] = []
    for unit in range(units):
        top = windows.cut(images, highest(responses[:, unit].flatten(), SHARE), unit)
        arrays.append(InspectedArray("patch_mean", layer.name, top.mean(0).numpy(), unit))
        arrays += [
            InspectedArray("patch", layer.name, top[position].numpy(), unit, value=share)
            for position, share in distinct_patterns(top.flatten(1), PATTERNS, unit=unit)
        ]
    return arrays


def highest(values: Tensor, share: float) -> Tensor:
    """Return the indices of the highest values `(N,)`, a share of them rounded up; of equal ones the first."""
    count = math.ceil(share * len(values))
    least = values.topk(count).values[-1]
    above = (values > least).nonzero().flatten()
    equal = (values == least).nonzero().flatten()[: count - len(above)]
    return torch.cat([above, equal]).sort().values


def distinct_patterns(patches: Tensor, count: int, *, unit: int) -> list[tuple[int, float]]:
    """Divide patches `(P, D)` into groups by k-means; return the patch nearest to each mean, and the group's share.

    Groups are sorted by size. Identical patches are in one group, so there may be fewer than `count`. The starting
    points are drawn by k-means++ (Arthur and Vassilvitskii 2007), addressed by the unit.
    """
    draws = generator("inspect", "patterns", unit)
    centers = patches[torch.randint(len(patches), (1,), generator=draws)]
    while len(centers) < count:
        squares = torch.cdist(patches, centers).amin(1).square()
        if not squares.sum() > 0:
            break
        centers = torch.cat([centers, patches[torch.multinomial(squares, 1, generator=draws)]])
    group = torch.cdist(patches, centers).argmin(1)
    for _ in range(_ITERATIONS):
        kept = [patches[group == number].mean(0) for number in range(len(centers)) if (group == number).any()]
        centers, before = torch.stack(kept), group
        group = torch.cdist(patches, centers).argmin(1)
        if torch.equal(group, before):
            break
    distances = torch.cdist(patches, centers)
    found = []
    for number in range(len(centers)):
        members = (group == number).nonzero().flatten()
        if len(members):
            nearest = members[distances[members, number].argmin()]
            found.append((int(nearest), len(members) / len(patches)))
    return sorted(found, key=lambda pattern: (-pattern[1], pattern[0]))


def _sees_pixels(layer: FirstLayer, test: Split | StoredSplit, device: torch.device) -> bool:
    """Return whether the inputs of the layer have the shape of the images, or of their pixels in one row."""
    seen = tuple(layer.run(to_unit(test.images[:1]).to(device))[0].shape[1:])
    if isinstance(layer.linear, nn.Conv2d):
        return seen == tuple(test.image_shape)
    return seen == (torch.Size(test.image_shape).numel(),)


class _Windows:
    """Windows of pixels that the units of a layer see, by their position in the layer's output."""

    def __init__(
        self,
        rows: Sequence[tuple[int, int]],
        columns: Sequence[tuple[int, int]],
        taps: tuple[Tensor, Tensor],
        groups: int,
        channels: int,
        outputs: int,
    ) -> None:
        self.rows, self.columns, self.taps = rows, columns, taps
        self.groups, self.channels, self.outputs = groups, channels, outputs

    @classmethod
    def of(cls, linear: nn.Conv2d | nn.Linear, shape: Sequence[int]) -> _Windows:
        """Return the windows of a layer for images of `shape` (C, H, W); a dense layer has one, the whole image."""
        channels, *sides = shape
        if isinstance(linear, nn.Linear):
            taps = torch.arange(sides[0]), torch.arange(sides[1])
            return cls([(0, 0)], [(0, 0)], taps, 1, channels, linear.out_features)
        axes = [_positions(linear, axis, side) for axis, side in enumerate(sides)]
        rows, columns = (
            torch.arange(size) * step for size, step in zip(linear.kernel_size, linear.dilation, strict=True)
        )
        return cls(axes[0], axes[1], (rows, columns), linear.groups, channels, linear.out_channels)

    def inside(self, output: Tensor) -> Tensor:
        """Return the outputs `(B, R, rows, columns)` whose windows lie inside the image."""
        if output.dim() == 2:
            return output[:, :, None, None]
        rows, columns = ([index for index, _ in axis] for axis in (self.rows, self.columns))
        return output[:, :, rows][:, :, :, columns]

    def cut(self, images: Tensor, indices: Tensor, unit: int) -> Tensor:
        """Return the windows `(P, C, h, w)` at flat indices into (image, row, column) that a unit sees."""
        each = len(self.rows) * len(self.columns)
        tops, lefts = (torch.tensor([start for _, start in axis]) for axis in (self.rows, self.columns))
        image, place = indices // each, indices % each
        top, left = tops[place // len(self.columns)], lefts[place % len(self.columns)]
        group, per_group = unit * self.groups // self.outputs, self.channels // self.groups
        channel = torch.arange(group * per_group, (group + 1) * per_group)
        row, column = top[:, None] + self.taps[0], left[:, None] + self.taps[1]
        return images[
            image[:, None, None, None], channel[None, :, None, None], row[:, None, :, None], column[:, None, None]
        ]


def _positions(linear: nn.Conv2d, axis: int, side: int) -> list[tuple[int, int]]:
    """Return the output indices along an axis whose windows lie inside the image, with the windows' first pixels."""
    size, stride, step = linear.kernel_size[axis], linear.stride[axis], linear.dilation[axis]
    reach = (size - 1) * step
    if isinstance(linear.padding, str):
        before, total = (reach // 2, reach) if linear.padding == "same" else (0, 0)
    else:
        before, total = int(linear.padding[axis]), 2 * int(linear.padding[axis])
    starts = ((index, index * stride - before) for index in range((side + total - reach - 1) // stride + 1))
    return [(index, start) for index, start in starts if start >= 0 and start + reach < side]
