"""Batches on a GPU of images that remain in their file."""

from __future__ import annotations

from pathlib import Path

import torch

from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.store import open_split, store
from gauntlet.registry import Spec


def test_batches_from_a_file_are_those_of_images_on_the_device(device: torch.device, tmp_path: Path) -> None:
    """Copied through pinned memory while others are in use, with equal augmentation."""
    store(tmp_path, select(Spec("sklearn_digits")))
    stored = open_split(tmp_path, "train")
    augmentations = [build_augmentation(Spec("gaussian_noise", {"std": 0.1}))]
    sides = [
        list(Batches(split, batch_size=16, seed=0, device=device, augmentations=augmentations).epoch(0))
        for split in (stored, stored.load(device))
    ]
    assert len(sides[0]) == len(sides[1]) > 60
    for (images, labels), (expected, expected_labels) in zip(*sides, strict=True):
        assert images.device.type == device.type
        assert torch.equal(images, expected)
        assert torch.equal(labels, expected_labels)
