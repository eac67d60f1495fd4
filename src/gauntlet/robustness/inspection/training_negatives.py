"""Negative examples of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.negatives import build_negatives
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.registry import Spec
from gauntlet.robustness.inspection.arrays import InspectedArray

COUNT = 4


def training_negatives(
    spec: Spec,
    train: Split | StoredSplit,
    *,
    augmentation: Sequence[Spec],
    batch_size: int,
    seed: int,
    device: torch.device,
) -> list[InspectedArray]:
    """Return the first negatives of a training run with these settings: one of each of the first four steps.

    They are those of the first epoch with negatives, with the random draws of the training run; on another kind of
    device than the run's, the draws differ. If an epoch has fewer than four steps, each step contributes more.
    """
    negatives = build_negatives(spec)
    augmentations = [build_augmentation(settings) for settings in augmentation]
    batches = Batches(train, batch_size=batch_size, seed=seed, device=device, augmentations=augmentations)
    epoch, per_step = negatives.start_epoch - 1, -(-COUNT // min(COUNT, batches.steps))
    examples: list[torch.Tensor] = []
    for step, (images, labels) in zip(range(COUNT), batches.epoch(epoch), strict=False):
        draws = generator("train", seed, "negatives", epoch, step, device=device)
        examples += negatives.make(images, labels, draws)[:per_step].cpu()
    return [
        InspectedArray("negative", spec.name, image.numpy(), number) for number, image in enumerate(examples[:COUNT])
    ]
