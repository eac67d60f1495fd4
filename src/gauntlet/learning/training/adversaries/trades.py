"""TRADES: the loss on clean images, and how far the prediction can be moved in a ball."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gauntlet.core.geometry import Ball
from gauntlet.core.randomness import normal
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.ascent import ascend
from gauntlet.learning.training.adversary import Adversary, without_side_effects
from gauntlet.registry import ADVERSARIES, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

_START_STD = 1e-3


@ADVERSARIES.register("trades", losses=("cross_entropy",), source="Zhang et al. 2019, arXiv:1901.08573")
class Trades(Adversary):
    """Minimise loss(clean) + beta KL(clean || perturbed), the perturbed images moved up the same divergence.

    `epsilon` and `step_size` are in pixel units of [0, 1]; `step_size` defaults to 2.5 epsilon / steps. The network is
    in evaluation mode while the images are sought, as in the source; the figures of an epoch are of its clean images.
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
        """Give images of another prediction in the ball and in [0, 1]; the labels are not looked at."""
        ball = Ball(images, strength * self.epsilon, self.norm)
        # At the clean image itself the divergence has no gradient.
        noise = normal(keys, images.shape[1:], stream="start", dtype=images.dtype)
        start = ball.project(images + _START_STD * noise)
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
        """Give the source's equation (5), means over the batch, and the clean logits `(B, K)`."""
        clean = network.outputs(images)
        moved = divergence(clean, network.outputs(perturbed)).mean()
        return loss(network, clean, labels).mean() + self.beta * moved, clean


def divergence(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Give KL(softmax(clean) || softmax(perturbed)) in nats for logits `(B, K)`: `(B,)`."""
    target, other = functional.log_softmax(clean, dim=1), functional.log_softmax(perturbed, dim=1)
    return functional.kl_div(other, target, reduction="none", log_target=True).sum(dim=1)
