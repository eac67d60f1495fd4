"""Objective of a training step: the loss of images and negatives, plus the penalties on the weights."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.core.randomness import generator
from gauntlet.learning.data.negatives import NO_CLASS, build_negatives
from gauntlet.learning.losses import Loss, updating
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, draw_keys
from gauntlet.learning.training.regularizers import build_regularizer
from gauntlet.learning.training.settings import TrainingSettings

CHUNK = 256
"""Images per chunk: a step of 4096 images takes 0.4 times as long in chunks of 256 (`benchmarks/training.py`)."""


@dataclass(frozen=True)
class StepLoss:
    """Loss of a training step: `loss` `()` plus `penalty` `()`, which is None if no regularizer is on.

    `outputs` `(B, ...)` are the raw outputs of the step's images, without its negatives.
    """

    loss: Tensor
    penalty: Tensor | None
    outputs: Tensor

    @property
    def total(self) -> Tensor:
        """Sum of loss and penalty."""
        return self.loss if self.penalty is None else self.loss + self.penalty

    def detached(self) -> StepLoss:
        """Return the same values without their graph."""
        penalty = None if self.penalty is None else self.penalty.detach()
        return StepLoss(self.loss.detach(), penalty, self.outputs.detach())


class TrainingObjective:
    """Objective of the training steps: adversary, negatives, loss and penalties.

    Negatives are made from the images before the adversary perturbs them, and are not perturbed themselves. The mean
    loss of the negatives is added to the mean loss of the images, as in the author's code (Le 2019).
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
    ) -> None:
        self.network, self.loss, self.adversary, self.seed, self.steps = network, loss, adversary, seed, steps
        self.regularizers = [build_regularizer(spec) for spec in settings.regularizers]
        self.negatives = None if settings.negatives is None else build_negatives(settings.negatives)

    @property
    def regularized_from(self) -> int | None:
        """First epoch, counted from 1, in which all regularizers are on; None without regularizers."""
        return max((regularizer.start_epoch for regularizer in self.regularizers), default=None)

    def step_loss(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> StepLoss:
        """Compute the loss of a step for images `(B, C, H, W)` in [0, 1] and labels `(B,)`.

        Epoch and step are counted from 0.
        """
        perturbed, negatives = (
            self._perturbed(images, labels, epoch, step),
            self._negatives(images, labels, epoch, step),
        )
        active = [regularizer for regularizer in self.regularizers if epoch + 1 >= regularizer.start_epoch]
        # The penalty then applies to the very weights that parametrized layers compute with, computed once.
        with parametrize.cached() if active else nullcontext():
            # A loss with a state is updated by the step's own loss, not by the adversary's ascent.
            with updating(self.loss):
                if self.adversary is None or perturbed is None:
                    outputs = outputs_in_chunks(self.network, images)
                    loss = self.loss(self.network, outputs, labels).mean()
                else:
                    loss, outputs = self.adversary.objective(self.network, self.loss, images, perturbed, labels)
            if negatives is not None:
                loss = loss + self._loss_of_negatives(negatives, labels)
            penalties = [regularizer.penalty(self.network) for regularizer in active]
        return StepLoss(loss, torch.stack(penalties).sum() if penalties else None, outputs)

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

    def _perturbed(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor | None:
        if self.adversary is None:
            return None
        keys = draw_keys(len(labels), "train", self.seed, "adversary", epoch, step, device=images.device)
        strength = self.adversary.strength(epoch + (step + 1) / self.steps)
        return self.adversary.perturb(self.network, self.loss, images, labels, keys=keys, strength=strength)


def outputs_in_chunks(network: Network, images: Tensor) -> Tensor:
    """Map images `(B, C, H, W)` to raw outputs as `network.outputs` does, in chunks of `CHUNK` images.

    Chunks are used on the CPU only, and only if the network's samples are independent of each other. Parametrized
    weights are computed once for all chunks; gradients flow through all of them.
    """
    if images.device.type != "cpu" or len(images) <= CHUNK or not network.samples_are_independent:
        return network.outputs(images)
    with parametrize.cached():
        return torch.cat([network.outputs(chunk) for chunk in images.split(CHUNK)])
