"""Objective of a training step: the loss of images and negatives, plus the penalties on the weights."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.core.randomness import generator
from gauntlet.learning.data.mixings import build_mixing
from gauntlet.learning.data.negatives import NO_CLASS, build_negatives
from gauntlet.learning.losses import Loss, updating
from gauntlet.learning.losses.mixed import mixed_loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, draw_keys, perturbed_images
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.regularizers import build_regularizer
from gauntlet.learning.training.settings import TrainingSettings
from gauntlet.learning.training.weight_perturbation import WeightPerturbation

CHUNK = 256
"""Images per chunk: a step of 4096 images takes 0.4 times as long in chunks of 256 (`benchmarks/training.py`)."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of a training step: `loss` `()` plus `penalty` `()`, which is None if no regularizer is on.

    `outputs` `(B, ...)` are the raw outputs of the step's images, without its negatives; `labels` `(B,)` are their
    labels, of mixed images the ones with the larger share.
    """

    loss: Tensor
    penalty: Tensor | None
    outputs: Tensor
    labels: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of loss and penalty."""
        return self.loss if self.penalty is None else self.loss + self.penalty

    def detached(self) -> StepLoss:
        """Return the same values without their graph."""
        penalty = None if self.penalty is None else self.penalty.detach()
        return StepLoss(self.loss.detach(), penalty, self.outputs.detach(), self.labels)


@dataclass(frozen=True)
class _Batch:
    """Images of a step, with the loss of their targets, what the adversary made of them (or None), and negatives."""

    images: Tensor
    labels: Tensor
    loss: Loss
    perturbed: Tensor | None
    negatives: Tensor | None


class TrainingObjective:
    """Objective of the training steps: mixing, adversary, negatives, loss and penalties.

    Negatives are made from the images before they are mixed and before the adversary perturbs them, and are not
    perturbed themselves. The mean loss of the negatives is added to the mean loss of the images, as in the author's
    code (Le 2019).
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        adversary: Adversary | None,
        settings: TrainingSettings,
        *,
        seed: int,
        steps: int,
        processes: DataParallelGroup | None = None,
    ) -> None:
        self.network, self.loss, self.adversary, self.seed, self.steps = network, loss, adversary, seed, steps
        self.regularizers = [build_regularizer(spec) for spec in settings.regularizers]
        self.negatives = None if settings.negatives is None else build_negatives(settings.negatives)
        self.mixing = None if settings.mixing is None else build_mixing(settings.mixing)
        self.awp = None if settings.awp is None else WeightPerturbation(settings.awp, network, processes)

    @property
    def regularized_from(self) -> int | None:
        """First epoch, counted from 1, in which all regularizers are on; None without regularizers."""
        return max((regularizer.start_epoch for regularizer in self.regularizers), default=None)

    @property
    def complete_from(self) -> int:
        """First epoch, counted from 1, in which all parts are on: regularizers, negatives and perturbed weights."""
        starts = [1, self.regularized_from or 1]
        starts += [] if self.negatives is None else [self.negatives.start_epoch]
        starts += [] if self.awp is None else [self.awp.settings.start_epoch]
        return max(starts)

    def backward(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> StepLoss:
        """Compute the loss of a step and its gradients, at perturbed weights if these are on; return it detached.

        Images are `(B, C, H, W)` in [0, 1], labels `(B,)`. Epoch and step are counted from 0. The gradients of the
        parameters must be None before.
        """
        batch = self._batch(images, labels, epoch, step)
        awp = self.awp if self.awp is not None and epoch + 1 >= self.awp.settings.start_epoch else None
        with nullcontext() if awp is None else awp.perturbed(lambda: self._loss_of(batch)[0]):
            step_loss = self._step_loss(batch, epoch)
            step_loss.total.backward()
        return step_loss.detached()

    def step_loss(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> StepLoss:
        """Compute the loss of a step, with its graph, at the network's own weights; arguments as in `backward`."""
        return self._step_loss(self._batch(images, labels, epoch, step), epoch)

    def _step_loss(self, batch: _Batch, epoch: int) -> StepLoss:
        active = [regularizer for regularizer in self.regularizers if epoch + 1 >= regularizer.start_epoch]
        # The penalty then applies to the very weights that parametrized layers compute with, computed once.
        with parametrize.cached() if active else nullcontext():
            # A loss with a state is updated by the step's own loss, not by the adversary's ascent.
            with updating(self.loss):
                loss, outputs = self._loss_of(batch)
            if batch.negatives is not None:
                loss = loss + self._loss_of_negatives(batch.negatives, batch.labels)
            penalties = [regularizer.penalty(self.network) for regularizer in active]
        return StepLoss(loss, torch.stack(penalties).sum() if penalties else None, outputs, batch.labels)

    def _loss_of(self, batch: _Batch) -> tuple[Tensor, Tensor]:
        """Compute the loss of the images `()`, and their raw outputs."""
        if self.adversary is None or batch.perturbed is None:
            outputs = outputs_in_chunks(self.network, batch.images)
            return batch.loss(self.network, outputs, batch.labels).mean(), outputs
        return self.adversary.objective(self.network, batch.loss, batch.images, batch.perturbed, batch.labels)

    def _batch(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> _Batch:
        """Make what a step computes its loss of: mixed images, then perturbed ones, and negatives."""
        negatives, loss = self._negatives(images, labels, epoch, step), self.loss
        if self.mixing is not None:
            mixture = self.mixing(images, generator("train", self.seed, "mixing", epoch, step, device=images.device))
            images, shares, partners = mixture.images, mixture.shares, labels[mixture.partners]
            # The label of an image, which metrics count, is the one with the larger share.
            labels, partners = (
                torch.where(shares < 0.5, partners, labels),
                torch.where(shares < 0.5, labels, partners),
            )
            loss = mixed_loss(self.loss, partners, torch.maximum(shares, 1 - shares))
        return _Batch(images, labels, loss, self._perturbed(loss, images, labels, epoch, step), negatives)

    def _negatives(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor | None:
        """Make negatives from the images of a step; None before they start, or if there are none."""
        if self.negatives is None or epoch + 1 < self.negatives.start_epoch:
            return None
        random = generator("train", self.seed, "negatives", epoch, step, device=images.device)
        negatives = self.negatives.make(images, labels, random)
        return negatives if len(negatives) else None

    def _loss_of_negatives(self, negatives: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean loss `()` of images of no class, in a forward pass of their own."""
        # One pass over both would mix the statistics of batch normalization, which the source computes separately.
        outputs = outputs_in_chunks(self.network, negatives)
        no_class = labels.new_full((len(negatives),), NO_CLASS)
        return self.loss(self.network, outputs, no_class).mean()

    def _perturbed(self, loss: Loss, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor | None:
        if self.adversary is None:
            return None
        keys = draw_keys(len(labels), "train", self.seed, "adversary", epoch, step, device=images.device)
        strength = self.adversary.strength(epoch + (step + 1) / self.steps)
        return perturbed_images(self.adversary, self.network, loss, images, labels, keys=keys, strength=strength)


def outputs_in_chunks(network: Network, images: Tensor) -> Tensor:
    """Map images `(B, C, H, W)` to raw outputs as `network.outputs` does, in chunks of `CHUNK` images.

    Chunks are used on the CPU only, and only if the network's samples are independent of each other. Parametrized
    weights are computed once for all chunks; gradients flow through all of them.
    """
    if images.device.type != "cpu" or len(images) <= CHUNK or not network.samples_are_independent:
        return network.outputs(images)
    with parametrize.cached():
        return torch.cat([network.outputs(chunk) for chunk in images.split(CHUNK)])
