"""Pictures of any number of channels show every value of every channel."""

from __future__ import annotations

import numpy as np
import pytest

from gauntlet.reporting.pictures import change_picture, channels_note, picture

SHAPES = [(1, 1), (1, 40), (40, 1), (12, 10), (3, 16), (60, 60)]


def image(channels, height, width):
    """Draw an image whose values all differ, below one half."""
    values = np.random.default_rng(0).permutation(channels * height * width)
    return (values / values.size / 2).reshape(channels, height, width).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 12, 200])
def test_every_value_is_shown_the_same_number_of_times(channels, shape):
    """The rest of a mosaic is white, and no side is more than eight times as long as the other."""
    original = image(channels, *shape)
    shown = picture(original)
    assert shown.shape[2:] == ((3,) if channels == 3 else ())
    assert max(shown.shape[:2]) <= 8 * min(shown.shape[:2])
    values, counts = np.unique(shown[shown < 0.75], return_counts=True)
    assert np.array_equal(values, np.sort(original.ravel()))
    assert len(set(counts)) == 1
    assert (shown[shown >= 0.75] == 1).all()


def test_one_and_three_channels_are_the_image_itself():
    """Values outside [0, 1] are clipped."""
    gray, color = np.full((1, 3, 4), 2, np.float32), image(3, 5, 6)
    assert np.array_equal(picture(gray), np.ones((3, 4)))
    assert np.array_equal(picture(color), color.transpose(1, 2, 0))


def test_channels_are_in_reading_order():
    """Five square channels are in two rows of three; two high ones are side by side, two wide ones on each other."""
    constant = np.arange(5, dtype=np.float32)[:, None, None] / 10
    shown = picture(np.broadcast_to(constant, (5, 20, 20)))
    assert shown.shape == (41, 62)
    assert np.allclose([shown[0, [0, 21, 42]], shown[21, [0, 21, 42]]], [[0.0, 0.1, 0.2], [0.3, 0.4, 1.0]])
    assert picture(image(2, 30, 20)).shape == (30, 42)
    assert picture(image(2, 20, 30)).shape == (42, 30)


def test_a_change_that_cancels_over_channels_is_shown():
    """In color, each pixel has the signed change of the channel that changes most."""
    change = np.zeros((3, 2, 2), np.float32)
    change[:, 0, 0], change[:, 1, 1] = (0.1, -0.2, 0.1), (0.3, -0.1, -0.2)
    assert np.allclose(change_picture(change), [[-0.2, 0.0], [0.0, 0.3]])
    single = image(1, 3, 4) - 0.25
    assert np.array_equal(change_picture(single), single[0])
    several = change_picture(image(4, 20, 20) - 0.25)
    assert several.shape == picture(image(4, 20, 20)).shape
    assert np.array_equal(np.unique(several[~np.isnan(several)]), np.unique(image(4, 20, 20) - 0.25))


def test_only_unusual_channels_have_a_note():
    """Gray and RGB explain themselves."""
    assert [channels_note(1), channels_note(3)] == ["", ""]
    assert channels_note(4) == "images have 4 channels, each shown in gray"
