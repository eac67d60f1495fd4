"""What a training step minimises: the loss of its images and negatives, and the penalties on the weights."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.core.randomness import generator
from gauntlet.learning.data.negatives import NO_CLASS, build_negatives
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, draw_keys
from gauntlet.learning.training.regularizers import build_regularizer
from gauntlet.learning.training.settings import TrainingSettings

CHUNK = 256
"""Images a part: a step of 4096 takes 0.4 times as long in parts of 256 as in one (`benchmarks/training.py`)."""


@dataclass(frozen=True)
class StepLoss:
    """What a step minimises is `loss` `()` plus `penalty` `()`, None where no regulariser is on.

    `outputs` `(B, ...)` are the raw outputs of the step's images, its negatives left out.
    """

    loss: Tensor
    penalty: Tensor | None
    outputs: Tensor

    @property
    def total(self) -> Tensor:
        """The sum."""
        return self.loss if self.penalty is None else self.loss + self.penalty


class TrainingObjective:
    """Makes a step's terms: the adversary's images, then the negatives beside them, then loss and penalties.

    Negatives are made of the images as they were before the adversary, and it does not touch them.
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
        """The epoch, from 1, by which all regularisers have set in; None where there is none."""
        return max((regularizer.start_epoch for regularizer in self.regularizers), default=None)

    def step_loss(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> StepLoss:
        """Give the terms of a step, both counted from 0, for images `(B, C, H, W)` in [0, 1] and labels `(B,)`."""
        perturbed, count = self._perturbed(images, labels, epoch, step), len(labels)
        if self.negatives is not None and epoch + 1 >= self.negatives.start_epoch:
            draws = generator("train", self.seed, "negatives", epoch, step, device=images.device)
            made = self.negatives.make(images, labels, draws)
            images, labels = torch.cat([images, made]), torch.cat([labels, labels.new_full((len(made),), NO_CLASS)])
            perturbed = None if perturbed is None else torch.cat([perturbed, made])
        active = [regularizer for regularizer in self.regularizers if epoch + 1 >= regularizer.start_epoch]
        # What a parametrised layer computes with and what is penalised are then one tensor, computed once.
        with parametrize.cached() if active else nullcontext():
            if self.adversary is None or perturbed is None:
                outputs = outputs_in_chunks(self.network, images)
                loss = self.loss(self.network, outputs, labels).mean()
            else:
                loss, outputs = self.adversary.objective(self.network, self.loss, images, perturbed, labels)
            penalties = [regularizer.penalty(self.network) for regularizer in active]
        return StepLoss(loss, torch.stack(penalties).sum() if penalties else None, outputs[:count])

    def _perturbed(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> Tensor | None:
        if self.adversary is None:
            return None
        keys = draw_keys(len(labels), "train", self.seed, "adversary", epoch, step, device=images.device)
        strength = self.adversary.strength(epoch + (step + 1) / self.steps)
        return self.adversary.perturb(self.network, self.loss, images, labels, keys=keys, strength=strength)


def outputs_in_chunks(network: Network, images: Tensor) -> Tensor:
    """Map images `(B, C, H, W)` to the head's raw outputs, as `network.outputs` does; the graph reaches all parts.

    On the CPU alone, and only where a network says that its samples do not depend on each other. Weights behind a
    parametrisation are computed once for all parts.
    """
    if images.device.type != "cpu" or len(images) <= CHUNK or not network.samples_are_independent:
        return network.outputs(images)
    with parametrize.cached():
        return torch.cat([network.outputs(part) for part in images.split(CHUNK)])
