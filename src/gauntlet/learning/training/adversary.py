"""What stands between a batch and the training loss: images made harder, and the objective on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.core.randomness import generator
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network
from gauntlet.registry import ADVERSARIES, Spec


class Adversary:
    """Perturbs the images of a training step.

    `perturb` gets the images after augmentation, on the device. It leaves the network's parameters, their gradients,
    its buffers and its mode as they were. `warmup_epochs` is how long the strength grows linearly from 0 to 1.
    """

    warmup_epochs: int = 0

    def perturb(
        self, network: Network, loss: Loss, images: Tensor, labels: Tensor, *, keys: Tensor, strength: float = 1.0
    ) -> Tensor:
        """Give perturbed images, without gradient.

        Images are float32 `(B, C, H, W)` in [0, 1], labels and keys int64 `(B,)`; sample b draws from `keys[b]` alone.
        `strength` in [0, 1] scales the budget. The network is in the mode of its caller: training in a training step,
        evaluation in validation.
        """
        raise NotImplementedError

    def objective(
        self, network: Network, loss: Loss, images: Tensor, perturbed: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Give what is minimised, `()`, and the raw outputs that the figures of the epoch are of, `(B, ...)`."""
        outputs = network.outputs(perturbed)
        return loss(network, outputs, labels).mean(), outputs

    def strength(self, epochs: float) -> float:
        """Give the strength after so many epochs, parts of one included."""
        return min(1.0, epochs / self.warmup_epochs) if self.warmup_epochs else 1.0


def build_adversary(spec: Spec) -> Adversary:
    """Load an adversary and give it its options."""
    adversary: Adversary = ADVERSARIES.load(spec.name)(**spec.options)
    return adversary


def draw_keys(count: int, *address: str | int, device: str | torch.device) -> Tensor:
    """Draw one key per sample of a batch, int64 `(count,)`, by address; the same on every device."""
    return torch.randint(2**63 - 1, (count,), generator=generator(*address)).to(device)


@contextmanager
def without_side_effects(network: Network, *, training: bool) -> Iterator[None]:
    """Use a network without leaving a trace.

    Inside, it is in training or evaluation mode, its parameters need no gradient, and weights behind a
    parametrisation are computed once. Afterwards mode and buffers (running statistics, vectors of power iterations)
    are what they were.
    """
    modes = {module: module.training for module in network.modules()}
    frozen = [parameter for parameter in network.parameters() if parameter.requires_grad]
    # In evaluation too: a Lipschitz layer that goes into it computes the weight that it will use and keeps it.
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        if training != network.training:
            network.train(training)
        with parametrize.cached():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
