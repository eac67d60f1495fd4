"""TRADES: the loss on clean images plus the divergence between clean and perturbed predictions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.core.geometry import Ball
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.ascent import ascend, start_near
from gauntlet.learning.training.adversary import Adversary, without_side_effects
from gauntlet.registry import ADVERSARIES, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt


@ADVERSARIES.register("trades", losses=("cross_entropy",), source="Zhang et al. 2019, arXiv:1901.08573")
class Trades(Adversary):
    """Minimize loss(clean) + beta KL(clean || perturbed), where the perturbed images maximize the same divergence.

    `epsilon` and `step_size` are in pixel units of [0, 1]; `step_size` defaults to 2.5 epsilon / steps. As in the
    authors' code, the network is in evaluation mode during the ascent. The training metrics are of the clean images.
    """

    def __init__(
        self,
        *,
        epsilon: PositiveFloat,
        norm: Literal["linf", "l2"] = "linf",
        beta: NonNegativeFloat = 6.0,
        steps: PositiveInt = 10,
        step_size: PositiveFloat | None = None,
        warmup_epochs: NonNegativeInt = 0,
    ) -> None:
        self.norm, self.epsilon, self.steps, self.warmup_epochs = norm, epsilon, steps, warmup_epochs
        self.beta, self.step_size = beta, 2.5 * epsilon / steps if step_size is None else step_size

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return images in the ball and in [0, 1] whose predictions differ most; labels are not used."""
        ball = Ball(images, strength * self.epsilon, self.norm)
        # The divergence has no gradient at the clean image.
        start = start_near(images, ball, keys)
        with without_side_effects(network, training=False):
            with torch.no_grad():
                clean = network.outputs(images)
            return ascend(
                lambda x: divergence(clean, network.outputs(x)).sum(),
                start,
                ball,
                steps=self.steps,
                step_size=strength * self.step_size,
            )

    def objective(
        self, network: Network, loss: Loss, images: Tensor, perturbed: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return equation (5) of the paper as means over the batch, and the clean logits `(B, K)`."""
        clean = network.outputs(images)
        robust_term = divergence(clean, network.outputs(perturbed)).mean()
        return loss(network, clean, labels).mean() + self.beta * robust_term, clean


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Compute KL(softmax(clean) || softmax(perturbed)) in nats for logits `(B, K)`; returns `(B,)`."""
    target, prediction = functional.log_softmax(clean, dim=1), functional.log_softmax(perturbed, dim=1)
    return functional.kl_div(prediction, target, reduction="none", log_target=True).sum(dim=1)
