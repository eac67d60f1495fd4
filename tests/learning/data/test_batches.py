"""Batches on the device and their augmentation."""

from __future__ import annotations

import pytest
import torch

from gauntlet.core.randomness import generator
from gauntlet.learning.data.augmentations import build_augmentation
from gauntlet.learning.data.augmentations.shift import shift
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.splits import Split
from gauntlet.registry import AUGMENTATIONS, Spec


def numbered(count: int) -> Split:
    """Images whose gray level and label are their number."""
    numbers = torch.arange(count)
    return Split(numbers.to(torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4).contiguous(), numbers)


def test_an_epoch_holds_every_image_once_with_its_label() -> None:
    """The batches of an epoch are a permutation of images with their labels, in [0, 1]."""
    batches = Batches(numbered(100), batch_size=32, seed=0)
    images, labels = (torch.cat(parts) for parts in zip(*batches.epoch(0), strict=True))
    assert batches.steps == 4
    assert sorted(labels.tolist()) == list(range(100))
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)
    assert images.dtype == torch.float32


def test_order_is_decided_by_seed_and_epoch() -> None:
    """The order depends on seed and epoch, not on the global random state."""

    def order(seed: int, epoch: int) -> list[int]:
        torch.manual_seed(seed * 7 + epoch)
        return torch.cat(
            [labels for _, labels in Batches(numbered(50), batch_size=16, seed=seed).epoch(epoch)]
        ).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_an_epoch_resumed_at_a_step_gives_its_remaining_batches() -> None:
    """Batches from a step on equal those of a whole epoch, augmentation included."""
    noise = build_augmentation(Spec("gaussian_noise", {"std": 0.1}))
    batches = Batches(numbered(100), batch_size=16, seed=3, augmentations=[noise])
    whole, rest = list(batches.epoch(2)), list(batches.epoch(2, start=4))
    assert len(rest) == len(whole) - 4
    for (images, labels), (expected_images, expected_labels) in zip(rest, whole[4:], strict=True):
        assert torch.equal(labels, expected_labels)
        assert torch.equal(images, expected_images)


def test_every_step_draws_its_own_augmentation() -> None:
    """An image is augmented differently in each step and epoch."""
    noise = build_augmentation(Spec("gaussian_noise", {"std": 0.1}))
    grey = Split(torch.full((64, 1, 4, 4), 128, dtype=torch.uint8), torch.zeros(64, dtype=torch.int64))
    batches = Batches(grey, batch_size=16, seed=0, augmentations=[noise])
    seen = [images for epoch in (0, 1) for images, _ in batches.epoch(epoch)]
    assert all(not torch.equal(seen[i], seen[j]) for i in range(len(seen)) for j in range(i))


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (16, 1), (17, 1), (18, 2), (32, 2), (33, 2)])
def test_a_last_batch_of_one_image_is_left_out(count: int, steps: int) -> None:
    """A last batch of one image is dropped, except in a split of one image."""
    batches = Batches(numbered(count), batch_size=16, seed=0)
    assert batches.steps == steps
    assert len(list(batches.epoch(0))) == steps


@pytest.mark.parametrize("name", AUGMENTATIONS.names())
def test_augmentations_keep_shape_and_range_and_are_deterministic(name: str) -> None:
    """Each augmentation keeps shape, dtype and [0, 1], changes a copy, and repeats for the same draws."""
    augment = build_augmentation(Spec(name))
    images = torch.rand(8, 3, 6, 10, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    augmented = augment(images, generator("a", 0))
    assert torch.equal(images, before)
    assert augmented.shape == images.shape
    assert augmented.dtype == images.dtype
    assert augmented.min() >= 0
    assert augmented.max() <= 1
    assert not torch.equal(augmented, images)
    assert torch.equal(augment(images, generator("a", 0)), augmented)
    assert not torch.equal(augment(images, generator("a", 1)), augmented)


def test_each_image_is_shifted_by_its_own_offset() -> None:
    """Offsets differ between images, up to `pixels`, and pixel values stay the same."""
    images = torch.zeros(200, 1, 9, 9)
    images[:, :, 4, 4] = 1
    places = shift(images, generator("shift"), pixels=2).flatten(1)
    assert (places.sum(dim=1) == 1).all()
    rows, columns = places.argmax(dim=1) // 9, places.argmax(dim=1) % 9
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}


def test_flip_mirrors_images_at_the_given_probability() -> None:
    """Each image is unchanged or mirrored."""
    images = torch.rand(400, 1, 2, 4, generator=torch.Generator().manual_seed(1))
    flipped = build_augmentation(Spec("flip", {"probability": 0.25}))(images, generator("flip"))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    kept = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ kept).all()
    assert 0.18 < mirrored.double().mean() < 0.32
