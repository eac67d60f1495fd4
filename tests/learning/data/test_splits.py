"""Images, their hashes, and the draws that divide them."""

from __future__ import annotations

import hashlib

import pytest
import torch

from gauntlet.learning.data.splits import Split, sample_hash, sample_hashes, to_unit
from gauntlet.learning.data.strata import random_permutation, stratified_split


def test_unit_images_span_zero_to_one_exactly() -> None:
    """Level 0 becomes 0.0, 255 becomes 1.0, and all levels stay distinct."""
    images = to_unit(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16))
    assert images.dtype == torch.float32
    assert images.min() == 0
    assert images.max() == 1
    assert len(images.unique()) == 256


def test_hash_is_that_of_shape_and_float32_bytes() -> None:
    """The hash of an image can be computed without this package."""
    image = torch.rand(1, 3, 4)
    expected = hashlib.sha256(b"(1, 3, 4)" + image.numpy().tobytes()).hexdigest()[:16]
    assert sample_hash(image) == expected


def test_hash_depends_on_shape_and_values_not_on_memory_layout() -> None:
    """The same pixels have one hash in any memory format; another shape or pixel has another."""
    images = torch.rand(2, 3, 4, 4)
    assert sample_hashes(images.contiguous(memory_format=torch.channels_last)) == sample_hashes(images)
    assert sample_hash(images[0].reshape(3, 2, 8)) != sample_hash(images[0])
    assert sample_hash(images[0] + 1e-6) != sample_hash(images[0])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int32)),
    ],
)
def test_split_refuses_other_types_and_shapes(images: torch.Tensor, labels: torch.Tensor) -> None:
    """A split holds uint8 images (N, C, H, W) and int64 labels (N,) only."""
    with pytest.raises(ValueError, match="expected"):
        Split(images, labels)


def test_division_keeps_the_share_of_each_class_and_loses_nothing() -> None:
    """The parts are disjoint and complete, and each class is divided in proportion."""
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)
    rest, chosen = stratified_split(labels, 40, 0, "purpose")
    assert sorted([*rest.tolist(), *chosen.tolist()]) == list(range(160))
    assert len(chosen) == 40
    assert torch.bincount(labels[chosen]).tolist() in ([25, 13, 2], [25, 12, 3])


def test_classes_are_drawn_independently() -> None:
    """Different indices are drawn in two classes of one size."""
    _, chosen = stratified_split(torch.tensor([0] * 50 + [1] * 50), 50, 0, "purpose")
    assert chosen[chosen < 50].tolist() != (chosen[chosen >= 50] - 50).tolist()


def test_draws_are_decided_by_their_address() -> None:
    """Draws depend on their address, not on the global random state."""
    torch.manual_seed(1)
    first = random_permutation(100, 0, "order")
    torch.manual_seed(2)
    assert torch.equal(random_permutation(100, 0, "order"), first)
    assert not torch.equal(random_permutation(100, 1, "order"), first)
    assert not torch.equal(random_permutation(100, 0, "other"), first)
    assert sorted(first.tolist()) == list(range(100))


def test_draws_stay_the_same_for_ever() -> None:
    """A draw equals the one recorded here, so that a split can be made again years later."""
    assert random_permutation(1000, 0, "order")[:5].tolist() == [97, 403, 111, 386, 63]
