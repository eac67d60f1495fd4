"""Adversaries for adversarial training: they perturb a batch and define its loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.core.randomness import generator
from gauntlet.core.recurrent import recurrent_gradients
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.buffers import BufferCopies
from gauntlet.registry import ADVERSARIES, Spec


class Adversary:
    """Base class of adversaries, which perturb the images of a training step.

    `perturb` receives the images after augmentation, on the device. Training calls it by `perturbed_images`, which
    restores the network. Over the first `warmup_epochs` epochs the strength rises linearly from 0 to 1.
    """

    warmup_epochs: int = 0

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Return perturbed images, without gradient.

        Images are float32 `(B, C, H, W)` in [0, 1], labels and keys int64 `(B,)`. The random draws of sample b depend
        on `keys[b]` alone. `strength` in [0, 1] scales the budget. The caller sets the network's mode: training mode
        in a training step, evaluation mode in validation.
        """
        raise NotImplementedError

    def objective(
        self, network: Network, loss: Loss, images: Tensor, perturbed: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the loss to minimize, `()`, and the raw outputs `(B, ...)` for the training metrics."""
        outputs = network.outputs(perturbed)
        return loss(network, outputs, labels).mean(), outputs

    def strength(self, epochs: float) -> float:
        """Return the strength after `epochs` epochs, fractions included."""
        return min(1.0, epochs / self.warmup_epochs) if self.warmup_epochs else 1.0


def build_adversary(spec: Spec) -> Adversary:
    """Build an adversary from its name and options."""
    adversary: Adversary = ADVERSARIES.load(spec.name)(**spec.options)
    return adversary


def perturbed_images(
    adversary: Adversary,
    network: Network,
    loss: Loss,
    images: Tensor,
    labels: Tensor,
    *,
    keys: Tensor,
    strength: float = 1.0,
) -> Tensor:
    """Return the images that an adversary perturbs, without gradient; the network's state is restored afterwards.

    Arguments are those of `Adversary.perturb`. Parameters require no gradient meanwhile, so that a user's
    ``loss.backward()`` adds nothing to the gradients of the step.
    """
    # In validation, gradients are off otherwise.
    with without_side_effects(network, training=network.training), torch.enable_grad():
        return adversary.perturb(network, loss, images, labels, keys=keys, strength=strength).detach()


def draw_keys(count: int, *address: str | int, device: str | torch.device) -> Tensor:
    """Draw one random key per sample, int64 `(count,)`; keys depend on the address alone, not on the device."""
    return torch.randint(2**63 - 1, (count,), generator=generator(*address)).to(device)


@contextmanager
def without_side_effects(network: Network, *, training: bool) -> Iterator[None]:
    """Use a network and restore its state afterwards.

    Inside the block the network is in training or evaluation mode, its parameters require no gradient, recurrent layers
    have gradients in both modes, and parametrized weights are computed once. On exit the mode and the buffers (running
    statistics, vectors of power iterations) are restored.
    """
    modes = {module: module.training for module in network.modules()}
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # In evaluation mode too: a Lipschitz layer that enters it computes and stores the weight that it will use.
    buffers = BufferCopies(network)
    try:
        for parameter in trainable:
            parameter.requires_grad_(False)
        if training != network.training:
            network.train(training)
        with parametrize.cached(), recurrent_gradients(network):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in trainable:
            parameter.requires_grad_(True)
        buffers.restore()
