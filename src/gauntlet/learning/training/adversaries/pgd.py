"""Adversaries that ascend the training loss itself: PGD, and FGSM."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gauntlet.core.geometry import Ball
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.ascent import ascend_loss
from gauntlet.learning.training.adversary import Adversary
from gauntlet.registry import ADVERSARIES, NonNegativeInt, PositiveFloat, PositiveInt


@ADVERSARIES.register("pgd", source="Madry et al. 2018, arXiv:1706.06083")
class Pgd(Adversary):
    """Train on the images after projected gradient ascent on the training loss from a random point of the ball.

    `epsilon` and `step_size` are in pixel units of [0, 1]; `step_size` defaults to 2.5 epsilon / steps. As in the
    authors' code, the network is in the same mode as in the training step. `random_start: false` starts at the image.
    """

    def __init__(
        self,
        *,
        epsilon: PositiveFloat,
        norm: Literal["linf", "l2"] = "linf",
        steps: PositiveInt = 10,
        step_size: PositiveFloat | None = None,
        random_start: bool = True,
        warmup_epochs: NonNegativeInt = 0,
    ) -> None:
        self.norm, self.epsilon, self.steps, self.warmup_epochs = norm, epsilon, steps, warmup_epochs
        self.random_start = random_start
        self.step_size = 2.5 * epsilon / steps if step_size is None else step_size

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return images of higher loss in the ball and in [0, 1]."""
        ball = Ball(images, strength * self.epsilon, self.norm)
        start = ball.random_point(keys, stream="start") if self.random_start else images
        step_size = strength * self.step_size
        return ascend_loss(network, loss, labels, start, ball, steps=self.steps, step_size=step_size)


@ADVERSARIES.register("fgsm", source="Wong, Rice, Kolter 2020, arXiv:2001.03994")
class Fgsm(Pgd):
    """Train on the images after one gradient step on the training loss from a random point of the ball.

    `step_size` defaults to 1.25 epsilon. `random_start: false` is the fast gradient sign method: one step of epsilon
    from the image (Goodfellow et al. 2015, arXiv:1412.6572). With a large epsilon the network may become robust to
    single steps only (catastrophic overfitting, section 5 of the paper); an attack with PGD shows it.
    """

    def __init__(
        self,
        *,
        epsilon: PositiveFloat,
        norm: Literal["linf", "l2"] = "linf",
        step_size: PositiveFloat | None = None,
        random_start: bool = True,
        warmup_epochs: NonNegativeInt = 0,
    ) -> None:
        size = (1.25 if random_start else 1.0) * epsilon if step_size is None else step_size
        super().__init__(
            epsilon=epsilon,
            norm=norm,
            steps=1,
            step_size=size,
            random_start=random_start,
            warmup_epochs=warmup_epochs,
        )
