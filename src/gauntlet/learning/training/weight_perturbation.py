"""Adversarial weight perturbation (AWP): steps are taken on the loss at nearby weights of higher loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.learning.training.buffers import buffers_restored
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.settings import PerturbationSettings

_TINY = 1e-20


class WeightPerturbation:
    """Perturbation of the weights that raises a step's loss, by `gamma` times the norm of each weight tensor.

    Tensors of one dimension (biases, normalization) are not perturbed, as in the authors' code. The gradient that moves
    the weights is taken once, at the perturbed images. Source: Wu, Xia, Wang 2020, arXiv:2004.05884.
    """

    def __init__(
        self, settings: PerturbationSettings, network: Network, processes: DataParallelGroup | None = None
    ) -> None:
        self.settings, self.network, self.processes = settings, network, processes

    @contextmanager
    def perturbed(self, objective: Callable[[], Tensor]) -> Iterator[None]:
        """Perturb the weights inside the block by a step along the gradient of `objective`, `()`.

        Gradients are None at the start of the block. Buffers are those from before, as after a block without this.
        """
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        weights = [parameter for parameter in parameters if parameter.ndim > 1]
        originals = [weight.detach().clone() for weight in weights]
        with buffers_restored(self.network):
            objective().backward()
        if self.processes is not None:
            self.processes.average_gradients(parameters)
        try:
            with torch.no_grad():
                for weight in weights:
                    if weight.grad is not None:
                        size = self.settings.gamma * weight.norm() / (weight.grad.norm() + _TINY)
                        weight.add_(size * weight.grad)
            for parameter in parameters:
                parameter.grad = None
            yield
        finally:
            with torch.no_grad():
                for weight, original in zip(weights, originals, strict=True):
                    weight.copy_(original)
