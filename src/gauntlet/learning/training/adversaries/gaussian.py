"""Gaussian noise in training, for randomized smoothing."""

from __future__ import annotations

from torch import Tensor

from gauntlet.core.randomness import normal
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary
from gauntlet.registry import ADVERSARIES, NonNegativeInt, PositiveFloat


@ADVERSARIES.register("gaussian", source="Cohen, Rosenfeld, Kolter 2019, arXiv:1902.02918")
class Gaussian(Adversary):
    """Train on images with Gaussian noise of standard deviation `sigma` in pixel units of [0, 1].

    As in the paper, the noisy images are not clipped to [0, 1], since a smoothed classifier does not clip either. (The
    augmentation `gaussian_noise` clips.)
    """

    def __init__(self, *, sigma: PositiveFloat, warmup_epochs: NonNegativeInt = 0) -> None:
        self.sigma, self.warmup_epochs = sigma, warmup_epochs

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return the noisy images, which may lie outside [0, 1]."""
        noise = normal(keys, images.shape[1:], stream="noise", dtype=images.dtype)
        return images + strength * self.sigma * noise
