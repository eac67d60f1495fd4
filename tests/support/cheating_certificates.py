"""Certificates and networks that each break one constraint, given by import path like a user's."""

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
    """Return radii below 0."""
    return torch.full((len(x),), -0.1)


@CERTIFICATES.register("infinite", norms=("l2",))
def infinite(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Return infinite radii."""
    return torch.full((len(x),), torch.inf)


@CERTIFICATES.register("misshapen", norms=("l2",))
def misshapen(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Return radii of a wrong shape."""
    return torch.zeros(len(x), 1)


@CERTIFICATES.register("raising", norms=("l2",))
def raising(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Raise, as for a network that it does not know."""
    raise ValueError("no such layer")


@CERTIFICATES.register("own_raising", norms=("l2",), certifies="own")
def own_raising(network: object, x: Tensor) -> CertifiedPredictions:
    """Raise in a classifier of its own."""
    raise TypeError("no such layer")


PRECISE_RADIUS = 0.299999999
"""A radius whose nearest float32 number is above 0.3."""


@CERTIFICATES.register("precise", norms=("l2",))
def precise(network: object, x: Tensor, y: Tensor) -> Tensor:
    """Return radii in float64, with a gradient."""
    return torch.full((len(x),), PRECISE_RADIUS, dtype=torch.float64, requires_grad=True)


@CERTIFICATES.register("own_precise", norms=("l2",), certifies="own")
def own_precise(network: object, x: Tensor) -> CertifiedPredictions:
    """Return radii in float64 of a classifier of its own."""
    return replace(verdicts(np.zeros(len(x)), np.zeros(len(x))), radius=np.full(len(x), PRECISE_RADIUS))


@CERTIFICATES.register("own_negative", norms=("l2",), certifies="own")
def own_negative(network: object, x: Tensor) -> CertifiedPredictions:
    """Return radii below 0 for a classifier of its own."""
    return verdicts(np.zeros(len(x)), np.full(len(x), -0.1))


@CERTIFICATES.register("own_abstains", norms=("l2",), certifies="own")
def own_abstains(network: object, x: Tensor) -> CertifiedPredictions:
    """Abstain, and return radii all the same."""
    return verdicts(np.full(len(x), -1), np.full(len(x), 0.1))


@CERTIFICATES.register("own_short", norms=("l2",), certifies="own")
def own_short(network: object, x: Tensor) -> CertifiedPredictions:
    """Leave out an image."""
    return verdicts(np.zeros(len(x) - 1), np.zeros(len(x) - 1))


@CERTIFICATES.register("own_radii_only", norms=("l2",), certifies="own")
def own_radii_only(network: object, x: Tensor) -> Tensor:
    """Return radii without classes."""
    return torch.zeros(len(x))


@CERTIFICATES.register("memory_hungry", norms=("l2",), certifies="own")
def memory_hungry(network: object, x: Tensor, *, batch_size: int) -> CertifiedPredictions:
    """Run out of memory with over 8 images at once; otherwise certify class 1 at radius 1."""
    BATCHES.append(batch_size)
    if batch_size > 8:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return verdicts(np.ones(len(x)), np.ones(len(x)))


def verdicts(prediction: np.ndarray, radius: np.ndarray) -> CertifiedPredictions:
    """Return verdicts of the right dtypes."""
    return CertifiedPredictions(
        prediction.astype(np.int64), np.ones(len(radius), np.float32), radius.astype(np.float32)
    )


class OverclaimingNetwork(LipschitzCnn):
    """Network that normalizes its input and claims only the constant of its layers."""

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__(image_shape=image_shape, num_classes=num_classes, mean=mean, std=std)

    @property
    def lipschitz(self) -> LipschitzClaim:
        """Claim a hundredth of the proven constant."""
        return replace(super().lipschitz, constant=0.01 * super().lipschitz.constant)

    def export(self) -> LipschitzCnn:
        """Return the network itself, with its claim."""
        return self


class UnprovenNetwork(LipschitzCnn):
    """Network with a batch normalization among its constrained layers."""

    def __init__(self, *, image_shape: tuple[int, int, int], num_classes: int) -> None:
        channels = image_shape[0]
        super().__init__(image_shape=image_shape, num_classes=num_classes, mean=[0.0] * channels, std=[1.0] * channels)
        self.body.insert(1, nn.BatchNorm2d(16))

    def export(self) -> LipschitzCnn:
        """Return the network itself."""
        return self
