"""The components of experiments/softmax_deviations.yaml."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional

from experiments.fastestimator import MEAN, STD, FgsmInBatchRange, coarse_color, encoded_again
from gauntlet.core.errors import InputError
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.registry import Spec


@pytest.fixture
def network():
    """A network for images like CIFAR-10's."""
    return build(Spec("lenet"), image_shape=(3, 32, 32), num_classes=10, mean=MEAN, std=STD, seed=0).eval()


def test_a_step_is_clipped_to_the_range_of_the_batch_over_all_channels(network):
    """In normalized units: white of the first channel is below that of the others, and may be exceeded."""
    images = torch.rand((6, 3, 32, 32), generator=torch.Generator().manual_seed(0)).round(decimals=1)
    images[0, :, :8] = 1.0
    labels, loss = torch.arange(6), build_loss(Spec("cross_entropy"))
    stepped = FgsmInBatchRange(epsilon=0.04).perturb(network, loss, images, labels, keys=labels)
    leaf = images.clone().requires_grad_(True)
    functional.cross_entropy(network.outputs(leaf), labels, reduction="sum").backward()
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    before, after = (images - mean) / std, (stepped - mean) / std
    torch.testing.assert_close(after, (before + 0.04 * leaf.grad.sign()).clamp(before.min(), before.max()))
    raised = leaf.grad[0, 0, :8] > 0
    assert raised.any()
    torch.testing.assert_close(stepped[0, 0, :8][raised], torch.full((int(raised.sum()),), 1 + 0.04 * STD[0]))


@pytest.fixture
def noise(tmp_path):
    """Eight images of noise, uint8 `(8, 32, 32, 3)`, in tables for training and testing in the folder.

    Their colors are near gray, so that changed ones remain within 0 to 255.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(96, 160, (8, 32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
    encoded = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": None})
    for split in ("train", "test"):
        pq.write_table(pa.table({"img": encoded, "label": [0, 1] * 4}), tmp_path / f"{split}.parquet")
    return images


def test_images_are_encoded_once_more(noise, tmp_path):
    """Labels and order remain; a lower quality changes more."""
    original = torch.from_numpy(noise).permute(0, 3, 1, 2)
    changes = []
    for quality in (95, 38):
        data = encoded_again(root=str(tmp_path), quality=quality)
        assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1] * 4
        assert torch.equal(data.train.images, data.test.images)
        changes.append((data.train.images.float() - original.float()).abs().mean((1, 2, 3)))
    assert (changes[0] > 0).all()
    assert (changes[1] > changes[0]).all()


def test_color_is_coarser_and_brightness_remains(noise, tmp_path):
    """Color differences are the means of their squares."""
    original = torch.from_numpy(noise).permute(0, 3, 1, 2)
    data = coarse_color(root=str(tmp_path), side=4)
    assert data.train.labels.tolist() == [0, 1] * 4
    before, after = luminance_and_differences(original), luminance_and_differences(data.train.images)
    torch.testing.assert_close(after[:, 0], before[:, 0], atol=2.5, rtol=0)
    means = functional.avg_pool2d(before[:, 1:], 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(after[:, 1:], means, atol=3.0, rtol=0)
    with pytest.raises(InputError, match="squares of 5 pixels do not divide an image of 32x32"):
        coarse_color(root=str(tmp_path), side=5)


def luminance_and_differences(images):
    """Y, B − Y and R − Y, `(B, 3, H, W)`, of images in RGB (ITU-R BT.601)."""
    red, green, blue = images.float().unbind(1)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([bright, blue - bright, red - bright], dim=1)
