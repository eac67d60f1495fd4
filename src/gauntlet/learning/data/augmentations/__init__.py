"""Augmentations: batched tensor code on the device, one draw per image, pixels stay in [0, 1]; one a file.

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
    """Load an augmentation and bind its options."""
    return partial(AUGMENTATIONS.load(spec.name), **spec.options)
