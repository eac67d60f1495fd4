"""Augmentations that resample images through another frame, and random erasing, against known values."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.augmentations.affine import affine_sample
from gauntlet.learning.data.augmentations.random_erasing import random_erasing
from gauntlet.learning.data.augmentations.random_resized_crop import random_resized_crop
from gauntlet.learning.data.augmentations.rotation import rotate, rotation
from gauntlet.registry import Spec

NOTHING = [
    Spec("random_resized_crop", {"scale": 1.0}),
    Spec("rotation", {"degrees": 0.0}),
    Spec("random_erasing", {"probability": 0.0}),
    Spec("flip", {"probability": 0.0}),
]


def noise(count: int, height: int, width: int) -> torch.Tensor:
    """Images of three channels."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def coordinates(count: int, height: int, width: int) -> torch.Tensor:
    """Images whose two channels are a pixel's x and y, from edge to edge of the image in [0, 1]."""
    x = ((torch.arange(width) + 0.5) / width).expand(height, width)
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    return torch.stack([x, y]).expand(count, 2, height, width)


@pytest.mark.parametrize("spec", NOTHING, ids=lambda spec: spec.name)
def test_without_strength_nothing_changes(spec: Spec) -> None:
    """Augmentations of strength zero are the identity to rounding, also on images that are not square."""
    images = noise(5, 7, 12)
    torch.testing.assert_close(build_augmentation(spec)(images, generator("x")), images, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 13)])
@pytest.mark.parametrize("degrees", [10.0, -7.5, 90.0])
def test_rotation_equals_that_of_torchvision(height: int, width: int, degrees: float) -> None:
    """Rotation equals torchvision's bilinear rotation for images of any shape."""
    images = noise(2, height, width)
    ours = rotate(images, torch.tensor([math.radians(degrees)] * 2))
    theirs = reference.rotate(images, degrees, interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_each_image_is_rotated_by_its_own_angle() -> None:
    """Angles differ between images, in both directions, up to the given maximum."""
    turned = rotation(1 - coordinates(300, 41, 41), generator("turn"), degrees=10.0)
    # The gradient of the first channel's plane is the direction that was "left" before.
    across = turned[:, 0, 20, 10] - turned[:, 0, 20, 30]
    down = turned[:, 0, 10, 20] - turned[:, 0, 30, 20]
    angles = torch.rad2deg(torch.atan2(down, across))
    assert angles.abs().max() <= 10.01
    assert angles.min() < -8
    assert angles.max() > 8
    assert len(angles.round(decimals=3).unique()) > 250


def test_sampling_at_half_size_has_the_values_computed_by_hand() -> None:
    """Samples between pixels and beyond the edge have the values computed by hand."""
    images = torch.tensor([[0.0, 0.4], [0.8, 0.2]]).reshape(1, 1, 2, 2)
    maps = torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.5, -0.5]]])
    inner = 0.75 * 0.75 * 0 + 0.75 * 0.25 * 0.4 + 0.25 * 0.75 * 0.8 + 0.25 * 0.25 * 0.2
    expected = [[0.0, 0.25 * 0.4], [0.25 * 0.8, inner]]
    assert affine_sample(images, maps, outside="border").reshape(2, 2).tolist() == [
        pytest.approx(row) for row in expected
    ]
    dark = [[0.0, 0.75 * 0.25 * 0.4], [0.75 * 0.25 * 0.8, inner]]
    assert affine_sample(images, maps, outside="zeros").reshape(2, 2).tolist() == [pytest.approx(row) for row in dark]


def test_rounding_makes_no_pixel_brighter_than_white() -> None:
    """Interpolation weights that sum to over 1 in float32 leave white at 1."""
    assert rotation(torch.ones(500, 1, 17, 17), generator("white")).max() == 1


def test_crops_have_the_given_area_and_shape_and_lie_inside() -> None:
    """The window's sides and place are read from an image of coordinates."""
    seen = random_resized_crop(coordinates(500, 40, 60), generator("crop"), scale=0.6)
    middle_x, middle_y = seen[:, 0, 20], seen[:, 1, :, 30]
    width = (middle_x[:, 40] - middle_x[:, 20]) * 3
    height = (middle_y[:, 30] - middle_y[:, 10]) * 2
    area, ratio = width * height, width / height
    assert 0.6 <= area.min() < 0.62
    assert 0.98 < area.max() <= 1
    assert ratio.min() >= 0.749
    assert ratio.max() <= 1.334
    assert (ratio.max() - ratio.min()) > 0.5
    left = middle_x[:, 30] - width / 2 - width / 120
    assert left.min() >= -1e-4
    assert (left + width).max() <= 1 + 1e-4
    assert left.max() > 0.2


def test_erased_rectangles_have_the_given_area_and_probability() -> None:
    """A white image loses one rectangle of 1 to 5 % of its area, at about the given probability."""
    erased = random_erasing(torch.ones(400, 2, 60, 60), generator("erase"), probability=0.3)
    black = erased == 0
    assert torch.equal(black[:, 0], black[:, 1])
    black = black[:, 0]
    hit = black.flatten(1).any(dim=1)
    assert 0.22 < hit.double().mean() < 0.38
    pixels = black[hit].flatten(1).sum(dim=1)
    rows, columns = black[hit].any(dim=2).sum(dim=1), black[hit].any(dim=1).sum(dim=1)
    assert torch.equal(rows * columns, pixels)
    share = pixels / 3600
    assert 0.008 < share.min() < 0.015
    assert 0.045 < share.max() < 0.055
    ratio = rows / columns
    assert ratio.min() > 0.25
    assert ratio.max() < 4
    assert ratio.max() > 2
