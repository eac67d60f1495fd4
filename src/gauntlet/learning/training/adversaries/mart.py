"""MART: adversarial training that weighs misclassified images more."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.core.geometry import Ball
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.ascent import ascend_loss, start_near
from gauntlet.learning.training.adversaries.trades import divergence
from gauntlet.learning.training.adversary import Adversary, without_side_effects
from gauntlet.registry import ADVERSARIES, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

_FLOOR = 1e-4
"""Added to a probability of 0 before the logarithm, as in the authors' code."""


@ADVERSARIES.register(
    "mart", losses=("cross_entropy",), mixing=False, source="Wang et al. 2020, ICLR, OpenReview rklOg6EFwS"
)
class Mart(Adversary):
    """Minimize BCE(perturbed) + beta KL(clean || perturbed) (1 - p), with p the clean probability of the label.

    BCE is the cross-entropy plus -log(1 - q), with q the largest probability of another class. The perturbed images
    maximize the loss from a start at distance 0.001, with the network in evaluation mode, as in the authors' code.
    `epsilon` and `step_size` are in pixel units of [0, 1]; `step_size` defaults to 2.5 epsilon / steps. The training
    metrics are of the perturbed images.
    """

    def __init__(
        self,
        *,
        epsilon: PositiveFloat,
        norm: Literal["linf", "l2"] = "linf",
        beta: NonNegativeFloat = 5.0,
        steps: PositiveInt = 10,
        step_size: PositiveFloat | None = None,
        warmup_epochs: NonNegativeInt = 0,
    ) -> None:
        self.norm, self.epsilon, self.steps, self.warmup_epochs = norm, epsilon, steps, warmup_epochs
        self.beta, self.step_size = beta, 2.5 * epsilon / steps if step_size is None else step_size

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return images of higher loss in the ball and in [0, 1]."""
        ball = Ball(images, strength * self.epsilon, self.norm)
        start, step_size = start_near(images, ball, keys), strength * self.step_size
        with without_side_effects(network, training=False):
            return ascend_loss(network, loss, labels, start, ball, steps=self.steps, step_size=step_size)

    def objective(
        self, network: Network, loss: Loss, images: Tensor, perturbed: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the paper's objective as a mean over the batch, and the logits `(B, K)` of the perturbed images."""
        clean, outputs = network.outputs(images), network.outputs(perturbed)
        is_label = functional.one_hot(labels, outputs.shape[1]).bool()
        largest_other = outputs.softmax(1).masked_fill(is_label, 0.0).amax(1)
        boosted = loss(network, outputs, labels) - torch.log(1 + _FLOOR - largest_other)
        doubt = 1 - clean.softmax(1).gather(1, labels[:, None])[:, 0]
        return (boosted + self.beta * divergence(clean, outputs) * doubt).mean(), outputs
