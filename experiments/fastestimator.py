"""Components of softmax_deviations.yaml: FGSM as FastEstimator clips it, and CIFAR-10 encoded as JPEG once more."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gauntlet import ADVERSARIES, SOURCES, Adversary, Loss, Network, NonNegativeFloat, PositiveInt, RawData, Split
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.sources.parquet import parquet

# The constants of the published code; ours are measured on the training images.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)


@ADVERSARIES.register("fgsm_in_batch_range", source="FastEstimator, FGSM of its tensor operations")
class FgsmInBatchRange(Adversary):
    """Take one step of `epsilon` in normalized units, and clip to the range of the batch over all channels.

    Black and white have other normalized values in each channel, so that such pixels may leave [0, 1] in most channels.
    """

    def __init__(self, *, epsilon: NonNegativeFloat) -> None:
        self.epsilon, self.warmup_epochs = epsilon, 0

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return the images after the step, `(B, C, H, W)`; some pixels may lie outside [0, 1]."""
        mean, std = (torch.tensor(values, device=images.device).reshape(1, 3, 1, 1) for values in (MEAN, STD))
        with torch.enable_grad():
            leaf = images.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(loss(network, network.outputs(leaf), labels).sum(), leaf)
        normalized = (images - mean) / std
        stepped = normalized + strength * self.epsilon * gradient.sign()
        return stepped.clamp(normalized.min(), normalized.max()) * std + mean


@SOURCES.register("encoded_again", folder="root")
def encoded_again(*, root: str, quality: PositiveInt) -> RawData:
    """Read parquet tables, and encode each image as JPEG of the given quality (Pillow's) once more."""
    given = parquet(root=root)
    train, test, validation = (
        None if split is None else Split(torch.from_numpy(_encoded_images(split, quality)), split.labels)
        for split in (given.train, given.test, given.validation)
    )
    return RawData(train, test, validation, given.classes)


def _encoded_images(split: EncodedSplit, quality: int) -> np.ndarray:
    blocks = split.read()
    return np.stack([_encoded(block.decoded(row), quality) for block in blocks for row in range(len(block.images))])


def _encoded(image: np.ndarray, quality: int) -> np.ndarray:
    """Encode an image, uint8 `(C, H, W)`, and decode it."""
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)
