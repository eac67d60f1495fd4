"""Settings that the training loop reads; `gauntlet.config.variants.Training` has all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from gauntlet.registry import Spec

TrainingPrecision = Literal["float32", "tf32", "bfloat16"]
"""Precision of a training step's passes."""


class RecoverySettings(Protocol):
    """Settings of the recovery from collapsed epochs."""

    @property
    def threshold(self) -> float:
        """Share of the accuracy after the last good epoch below which an epoch has collapsed."""

    @property
    def samples(self) -> int:
        """Number of training images on which that accuracy is measured."""

    @property
    def frozen_epochs(self) -> int:
        """Number of epochs after a collapse in which ramps are frozen."""

    @property
    def max_collapses(self) -> int:
        """Number of collapses after which one more fails the training."""


class ClippingSettings(Protocol):
    """Settings of gradient clipping."""

    @property
    def limit(self) -> float:
        """Largest norm of the gradient."""

    @property
    def norm(self) -> Literal["linf", "l2"]:
        """Norm over all parameters together."""


class AveragingSettings(Protocol):
    """Settings of the moving average of the weights."""

    @property
    def decay(self) -> float:
        """Weight of the past in each step."""


class PerturbationSettings(Protocol):
    """Settings of the adversarial perturbation of the weights."""

    @property
    def gamma(self) -> float:
        """Norm of the perturbation of a weight tensor, relative to the norm of the tensor."""

    @property
    def start_epoch(self) -> int:
        """First epoch with perturbed weights, counted from 1."""


class TrainingSettings(Protocol):
    """Settings of a training run other than network, loss, data and seed."""

    @property
    def epochs(self) -> int:
        """Maximum number of epochs, collapsed ones included."""

    @property
    def batch_size(self) -> int:
        """Images per step."""

    @property
    def optimizer(self) -> Spec:
        """Optimizer of all trainable parameters."""

    @property
    def precision(self) -> TrainingPrecision:
        """Precision of the passes of each step."""

    @property
    def schedule(self) -> Spec:
        """Learning rate schedule, per epoch or per step."""

    @property
    def warmup_epochs(self) -> int:
        """Number of first epochs in which the learning rate rises linearly."""

    @property
    def regularizers(self) -> Sequence[Spec]:
        """Penalties on the weights, added to the loss of each step."""

    @property
    def gradient_clipping(self) -> ClippingSettings | None:
        """Clipping of the gradient before each step; None: never."""

    @property
    def keep(self) -> Literal["best", "best_accuracy", "last"]:
        """Epoch whose weights are kept; a collapsed epoch is never kept."""

    @property
    def ema(self) -> AveragingSettings | None:
        """Moving average of the weights, which is validated and kept in their place."""

    @property
    def patience(self) -> int | None:
        """Number of epochs without a lower validation loss after which training stops; None: never."""

    @property
    def augmentation(self) -> Sequence[Spec]:
        """Augmentations of each training batch, in order."""

    @property
    def mixing(self) -> Spec | None:
        """Mixing of the augmented images and of their targets."""

    @property
    def negatives(self) -> Spec | None:
        """Negative examples, made from the augmented images."""

    @property
    def adversary(self) -> Spec | None:
        """Adversary of the augmented images; the validation loss under it selects the epoch that is kept."""

    @property
    def awp(self) -> PerturbationSettings | None:
        """Adversarial perturbation of the weights in each step."""

    @property
    def validation_adversary(self) -> Spec | None:
        """Adversary under which the validation split is also measured after every epoch; it selects nothing."""

    @property
    def recovery(self) -> RecoverySettings | None:
        """Recovery from collapsed epochs; None: a non-finite loss fails the training."""
