"""Random crops, resized to the size of the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.learning.data.augmentations.affine import affine_sample
from gauntlet.registry import AUGMENTATIONS, Fraction

_LOG_RATIO = math.log(4 / 3)


@AUGMENTATIONS.register("random_resized_crop", source="Szegedy et al. 2015, arXiv:1409.4842, section 6")
def random_resized_crop(images: Tensor, generator: torch.Generator, *, scale: Fraction = 0.9) -> Tensor:
    """Crop a random window of at least the share `scale` of each image's area, and resize it to the image's size.

    The share is uniform in [scale, 1]. The aspect ratio of the window relative to the image's is log-uniform in
    [3/4, 4/3], or in the largest such interval in which the window fits.
    """
    draws = torch.rand((4, len(images)), generator=generator, device=images.device, dtype=images.dtype)
    area = scale + (1 - scale) * draws[0]
    reach = (-area.log()).clamp(max=_LOG_RATIO)
    ratio = (reach * (2 * draws[1] - 1)).exp()
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    maps = torch.zeros((len(images), 2, 3), device=images.device, dtype=images.dtype)
    maps[:, 0, 0], maps[:, 0, 2] = width, (1 - width) * (2 * draws[2] - 1)
    maps[:, 1, 1], maps[:, 1, 2] = height, (1 - height) * (2 * draws[3] - 1)
    return affine_sample(images, maps, outside="border")
