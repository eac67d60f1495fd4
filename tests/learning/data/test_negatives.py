"""Negatives: images made from a batch that belong to no class."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import generator
from gauntlet.learning.data.negatives import build_negatives
from gauntlet.learning.data.negatives.overlay import Overlay
from gauntlet.learning.data.negatives.scrambling import Scrambling, scramble_blocks, scramble_pixels
from gauntlet.registry import NEGATIVES, Spec


def batch(count: int = 12, height: int = 28, width: int = 28) -> tuple[Tensor, Tensor]:
    """Noise of three channels in four classes."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NEGATIVES.names())
def test_negatives_keep_shape_and_range_and_are_deterministic(name: str, dtype: torch.dtype) -> None:
    """The share decides their number; they are in [0, 1] and of the batch's dtype, and repeat for the same draws."""
    images, labels = batch()
    images = images.to(dtype)
    before = images.clone()
    for share, count in ((1.0, 12), (0.4, 5), (0.001, 2), (2.5, 30)):
        made = build_negatives(Spec(name, {"share": share})).make(images, labels, generator("n", 0))
        assert made.shape == (count, 3, 28, 28)
        assert made.dtype == dtype
        assert made.min() >= 0
        assert made.max() <= 1
    negatives = build_negatives(Spec(name))
    made = negatives.make(images, labels, generator("n", 0))
    assert torch.equal(images, before)
    assert torch.equal(made, negatives.make(images, labels, generator("n", 0)))
    assert not torch.equal(made, negatives.make(images, labels, generator("n", 1)))
    assert not any(torch.equal(one, image) for one in made for image in images)


def test_scrambling_permutes_whole_pixels() -> None:
    """Each image has its own permutation of pixels, with the channels of a pixel kept together."""
    images, _ = batch(6)
    images = images[:1].expand(6, -1, -1, -1)
    scrambled = scramble_pixels(images, generator("s"))
    before, after = ({tuple(pixel) for pixel in part[0].flatten(1).T.tolist()} for part in (images, scrambled))
    assert before == after
    assert len({one.numpy().tobytes() for one in scrambled}) == 6


@pytest.mark.parametrize(("block", "height", "width"), [(5, 28, 28), (7, 28, 28), (3, 32, 32), (9, 32, 32), (4, 6, 20)])
def test_scrambled_blocks_stay_whole(block: int, height: int, width: int) -> None:
    """A permuted block keeps its rows and columns, also a smaller last block."""
    places = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    scrambled = scramble_blocks(places.expand(20, 1, height, width), block, generator("b")).long()[:, 0]
    rows, columns = scrambled[:, :, 0] // width, scrambled[:, 0, :] % width
    assert torch.equal(scrambled, rows[:, :, None] * width + columns[:, None, :])
    for orders, size in ((rows, height), (columns, width)):
        assert all(sorted(order.tolist()) == list(range(size)) for order in orders)
        for order in orders.tolist():
            starts = [place for place, row in enumerate(order) if row % block == 0]
            for start in starts:
                length = min(block, size - order[start])
                assert order[start : start + length] == list(range(order[start], order[start] + length))
        assert len({tuple(order) for order in orders.tolist()}) > 1


@pytest.mark.parametrize(("height", "width", "orders"), [(8, 8, 3), (8, 5, 1), (5, 8, 1), (8, 3, 1), (3, 8, 1)])
def test_no_image_is_scrambled_into_itself(height: int, width: int, orders: int) -> None:
    """A permutation of two blocks is never the identity."""
    places = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width).expand(300, 1, -1, -1)
    scrambled = scramble_blocks(places, 5, generator("b"))
    assert not (scrambled == places).flatten(1).all(dim=1).any()
    assert len({one.numpy().tobytes() for one in scrambled}) == orders


def test_each_kind_of_scrambling_is_drawn_equally_often() -> None:
    """Pixels, blocks of 5 and blocks of 7 are drawn about equally often."""
    rows = torch.arange(28, dtype=torch.float32)[:, None].expand(28, 28).reshape(1, 1, 28, 28) / 28
    scrambling = Scrambling(blocks=(5, 7), share=1.0)
    met = []
    for number in range(150):
        order = (scrambling.make(rows, torch.zeros(1), generator("way", number)) * 28).round().long()[0, 0]
        if not (order == order[:, :1]).all():
            met.append("pixels")
        else:
            met.append("5" if order[(order[:, 0] == 5).nonzero()[0, 0] - 1, 0] != 4 else "other")
    assert 30 < met.count("pixels") < 70
    assert met.count("5") > 20
    assert met.count("other") > 20
    only = Scrambling(blocks=(4,), pixels=False)
    assert (only.make(rows, torch.zeros(1), generator("w"))[0, 0].std(dim=1) == 0).all()


def test_scrambling_without_effect_is_refused() -> None:
    """A block as large as the image, or no kind at all, is refused with its key."""
    images, labels = batch(4, 8, 8)
    with pytest.raises(InputError, match=r"training\.negatives\.blocks: an image of 8x8 has only one block of 9"):
        Scrambling(blocks=(3, 9)).make(images, labels, generator("whichever way it is"))
    with pytest.raises(InputError, match=r"training\.negatives: nothing to scramble"):
        Scrambling(blocks=(), pixels=False)


def test_overlays_combine_scaled_images_of_two_classes() -> None:
    """Each of the two images is scaled by its own factor between 0.7 and 1."""
    labels = torch.arange(40) % 4
    images = torch.eye(4)[labels].reshape(40, 1, 2, 2)
    made = Overlay().make(images, labels, generator("o")).flatten(1)
    assert ((made > 0).sum(dim=1) == 2).all()
    bright = made[made > 0]
    assert 0.7 <= bright.min() < 0.72
    assert 0.98 < bright.max() <= 1
    assert len(bright.unique()) == 80
    assert len({tuple(row.nonzero().flatten().tolist()) for row in made}) == 6
    assert not torch.equal(made.argmax(dim=1).sort().values, made.argmax(dim=1))


def test_overlays_take_the_larger_of_two_pixels() -> None:
    """Without scaling an overlay is the pixelwise maximum of two images."""
    images = torch.tensor([[0.1, 0.9, 0.5], [0.6, 0.2, 0.5]]).reshape(2, 1, 1, 3)
    made = Overlay(faintest=1.0).make(images, torch.tensor([0, 1]), generator("o"))
    assert made.reshape(2, 3).tolist() == [pytest.approx([0.6, 0.9, 0.5])] * 2


def test_a_batch_of_one_class_gives_black_overlays() -> None:
    """A batch of one class has black overlays, since an overlay within a class is of that class."""
    images, labels = batch()
    assert not Overlay().make(images, torch.zeros_like(labels), generator("o")).any()
