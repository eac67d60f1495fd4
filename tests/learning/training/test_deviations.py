"""The components of experiments/softmax_deviations.yaml."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.nn import functional

from experiments.fastestimator import MEAN, STD, FgsmInBatchRange, encoded_again
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


def test_images_are_encoded_once_more(tmp_path):
    """Labels and order remain; a lower quality changes more."""
    noise = torch.randint(256, (8, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    encoded = []
    for image in noise:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": None})
    for split in ("train", "test"):
        pq.write_table(pa.table({"img": encoded, "label": [0, 1] * 4}), tmp_path / f"{split}.parquet")
    original = torch.from_numpy(noise).permute(0, 3, 1, 2)
    changes = []
    for quality in (95, 38):
        data = encoded_again(root=str(tmp_path), quality=quality)
        assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 1] * 4
        assert torch.equal(data.train.images, data.test.images)
        changes.append((data.train.images.float() - original.float()).abs().mean((1, 2, 3)))
    assert (changes[0] > 0).all()
    assert (changes[1] > changes[0]).all()
