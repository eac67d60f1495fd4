"""Negative examples as a training made them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.negatives import build_negatives
from gauntlet.learning.data.splits import Split
from gauntlet.registry import Spec
from gauntlet.robustness.inspection.arrays import InspectedArray

SHOWN = 4


def training_negatives(
    spec: Spec, train: Split, *, augmentation: Sequence[Spec], batch_size: int, seed: int, device: torch.device
) -> list[InspectedArray]:
    """Make the first negatives that a training with these settings sees: one of each of the first four steps.

    They are those of the first epoch that has any, with the draws of that training; on another kind of device than it
    ran on, they are others of the same kind. Where an epoch has fewer steps, each gives more.
    """
    negatives = build_negatives(spec)
    augmentations = [build_augmentation(one) for one in augmentation]
    batches = Batches(train, batch_size=batch_size, seed=seed, device=device, augmentations=augmentations)
    epoch, each = negatives.start_epoch - 1, -(-SHOWN // min(SHOWN, batches.steps))
    made: list[torch.Tensor] = []
    for step, (images, labels) in zip(range(SHOWN), batches.epoch(epoch), strict=False):
        draws = generator("train", seed, "negatives", epoch, step, device=device)
        made += negatives.make(images, labels, draws)[:each].cpu()
    return [InspectedArray("negative", spec.name, image.numpy(), number) for number, image in enumerate(made[:SHOWN])]
