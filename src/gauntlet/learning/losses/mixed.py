"""Loss of mixed targets."""

from __future__ import annotations

from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.learning.losses import Loss
from gauntlet.learning.models.network import Network


def mixed_loss(loss: Loss, partners: Tensor, shares: Tensor) -> Loss:
    """Return the loss of targets that are mixed: `shares` times that of the labels, the rest that of `partners`.

    Both are `(B,)`. For a loss that is linear in the target, such as cross-entropy, this is the loss of the soft target
    (Zhang et al. 2018, arXiv:1710.09412). Raises InputError, when called, for a loss without a value per sample.
    """

    def mixed(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
        own, other = loss(network, outputs, labels), loss(network, outputs, partners)
        if own.shape != shares.shape:
            problem = "this loss has no value per sample, so that its targets cannot be mixed"
            raise InputError(problem, where="training.mixing", remedy="leave mixing out, or choose another loss")
        return shares * own + (1 - shares) * other

    return mixed
