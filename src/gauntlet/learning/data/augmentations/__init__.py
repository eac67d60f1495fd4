"""Augmentations of batches on the device, with a random draw per image; pixels stay in [0, 1]. One per file.

An augmentation is a function ``(images (B, C, H, W), generator, *, options) -> images``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gauntlet.registry import AUGMENTATIONS, Spec

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def build_augmentation(spec: Spec) -> Augmentation:
    """Build an augmentation from its name and options."""
    return partial(AUGMENTATIONS.load(spec.name), **spec.options)
