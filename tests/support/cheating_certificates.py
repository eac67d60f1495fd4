"""Certificates and networks that break their promises in one way each, reached by import path as a user's own are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gauntlet.learning.models.lipschitz_cnn import LipschitzCnn
from gauntlet.learning.models.network import LipschitzClaim
from gauntlet.registry import CERTIFICATES
from gauntlet.robustness.certificates.certified_predictions import CertifiedPredictions

BATCHES: list[int] = []


@CERTIFICATES.register("negative", norms=("l2",))
def negative(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Give radii below 0."""
    return torch.full((len(x),), -0.1)


@CERTIFICATES.register("endless", norms=("l2",))
def endless(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Give infinite radii."""
    return torch.full((len(x),), torch.inf)


@CERTIFICATES.register("wide", norms=("l2",))
def wide(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Give radii of a wrong shape."""
    return torch.zeros(len(x), 1)


@CERTIFICATES.register("own_negative", norms=("l2",), certifies="own")
def own_negative(network: object, x: Tensor) -> CertifiedPredictions:
    """Give radii below 0 for a classifier of its own."""
    return verdicts(np.zeros(len(x)), np.full(len(x), -0.1))


@CERTIFICATES.register("own_abstains", norms=("l2",), certifies="own")
def own_abstains(network: object, x: Tensor) -> CertifiedPredictions:
    """Abstain, and give radii all the same."""
    return verdicts(np.full(len(x), -1), np.full(len(x), 0.1))


@CERTIFICATES.register("own_short", norms=("l2",), certifies="own")
def own_short(network: object, x: Tensor) -> CertifiedPredictions:
    """Leave out an image."""
    return verdicts(np.zeros(len(x) - 1), np.zeros(len(x) - 1))


@CERTIFICATES.register("own_radii_only", norms=("l2",), certifies="own")
def own_radii_only(network: object, x: Tensor) -> Tensor:
    """Say nothing of the classes."""
    return torch.zeros(len(x))


@CERTIFICATES.register("hungry", norms=("l2",), certifies="own")
def hungry(network: object, x: Tensor, *, batch_size: int) -> CertifiedPredictions:
    """Be out of memory with more than 8 images at once; certify class 1 at radius 1 otherwise."""
    BATCHES.append(batch_size)
    if batch_size > 8:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return verdicts(np.ones(len(x)), np.ones(len(x)))


def verdicts(prediction: np.ndarray, radius: np.ndarray) -> CertifiedPredictions:
    """Fill in the types."""
    return CertifiedPredictions(
        prediction.astype(np.int64), np.ones(len(radius), np.float32), radius.astype(np.float32)
    )


class Boastful(LipschitzCnn):
    """Normalises its input, and claims the constant of what follows as its own."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes, mean=mean, std=std, normalize=True)

    @property
    def lipschitz(self) -> LipschitzClaim:
        """Claim a hundredth of what is proven."""
        return replace(super().lipschitz, constant=0.01 * super().lipschitz.constant)

    def export(self) -> LipschitzCnn:
        """Stay what it is, so that the claim is kept."""
        return self


class Unproven(LipschitzCnn):
    """Has a batch normalisation among its constrained layers."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        channels = image_shape[0]
        super().__init__(image_shape=image_shape, num_classes=num_classes, mean=[0.0] * channels, std=[1.0] * channels)
        self.body.insert(1, nn.BatchNorm2d(16))

    def export(self) -> LipschitzCnn:
        """Stay what it is."""
        return self
