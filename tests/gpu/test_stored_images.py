"""Batches on a GPU of images that remain in their file, and parts of such batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gauntlet.config.variants import Training
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.store import store
from gauntlet.learning.data.stored_images import open_split
from gauntlet.learning.models.build import build
from gauntlet.learning.training.run import TrainingRun
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


def test_batches_from_a_file_are_computed_in_parts(device: torch.device, tmp_path: Path) -> None:
    """After memory ran out, the loss is that of whole batches up to rounding."""
    data = store(tmp_path, select(Spec("sklearn_digits"), limit={"train": 200, "test": 40}))
    train, validation = (open_split(tmp_path, name) for name in ("train", "validation"))
    losses = []
    for part_size in (None, 5):
        network = build(Spec("cnn"), image_shape=(1, 8, 8), num_classes=10, mean=data.mean, std=data.std)
        settings = Training(epochs=1, batch_size=32)
        run = TrainingRun(network, Spec("cross_entropy"), train, validation, settings=settings, seed=0, device=device)
        if part_size is not None:
            run.passes.shrink(part_size)
        losses.append(run.run_epoch().train_loss)
        run.passes.detach()
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
