"""Components of softmax_deviations.yaml: FGSM as FastEstimator clips it, and CIFAR-10 with more of what JPEG does."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gauntlet import ADVERSARIES, SOURCES, Adversary, Loss, Network, NonNegativeFloat, PositiveInt, RawData, Split
from gauntlet.core.errors import InputError
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

    def encoded(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return _changed(parquet(root=root), encoded)


@SOURCES.register("coarse_color", folder="root")
def coarse_color(*, root: str, side: PositiveInt) -> RawData:
    """Read parquet tables of color images, and average both color channels of YCbCr over squares of `side` pixels.

    Brightness remains, up to rounding. Raises InputError where squares do not fit the images.
    """

    def averaged(image: np.ndarray) -> np.ndarray:
        height, width, channels = image.shape
        if height % side or width % side or channels != 3:
            problem = f"squares of {side} pixels do not divide an image of {height}x{width} with {channels} channels"
            raise InputError(problem, where="dataset.side", remedy="choose a divisor of both sides, and color images")
        brightness, *colors = Image.fromarray(image).convert("YCbCr").split()
        small = (width // side, height // side)
        colors = [
            color.resize(small, Image.Resampling.BOX).resize(color.size, Image.Resampling.NEAREST) for color in colors
        ]
        return np.asarray(Image.merge("YCbCr", (brightness, *colors)).convert("RGB"))

    return _changed(parquet(root=root), averaged)


def _changed(given: RawData, change: Callable[[np.ndarray], np.ndarray]) -> RawData:
    """Return the data with each image, uint8 `(H, W, C)`, changed."""
    train, test, validation = (
        None if split is None else Split(torch.from_numpy(_changed_images(split, change)), split.labels)
        for split in (given.train, given.test, given.validation)
    )
    return RawData(train, test, validation, given.classes)


def _changed_images(split: EncodedSplit, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    decoded = (block.decoded(row) for block in split.read() for row in range(len(block.images)))
    return np.stack([change(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in decoded])
