"""The loss that a network was trained with, as a loss that attacks ascend."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.geometry import per_sample
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES
from gauntlet.robustness.attacks.base.losses import AttackLoss

_OTHERS = "use cross_entropy, margin or dlr"


def training_loss(network: nn.Module) -> AttackLoss:
    """Return the criterion that a network was trained with, as a function of its raw outputs and the labels.

    Only the loss itself: negatives, an adversary and regularizers of the training have no part in it. A loss that is a
    statistic of the batch is computed for each sample alone, so that no sample depends on others. Our own losses are
    differentiated in float64, where they are flat less often.

    Raises InputError for a network that was not trained by Gauntlet, and for a loss with a state, which is stored with
    the training and not with the network.
    """
    spec = network.training_loss if isinstance(network, Network) else None
    if spec is None or not isinstance(network, Network):
        remedy = f"load a model that Gauntlet trained with gauntlet.load_model, or {_OTHERS}"
        raise InputError("the model does not name the loss it was trained with", where="loss", remedy=remedy)
    loss, trained = build_loss(spec), network
    if isinstance(loss, nn.Module):
        raise InputError(f"{spec.name} has a state that only its training knows", where="loss", remedy=_OTHERS)
    in_double = spec.name in LOSSES.catalog
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)

    def value(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
        if not in_double:
            outputs = outputs.to(dtype)
        values = loss(trained, outputs, labels)
        if values.dim() == 0:
            pairs = zip(outputs.split(1), labels.split(1), strict=True)
            values = torch.stack([loss(trained, output, label) for output, label in pairs])
        return values

    def derivative(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = (outputs.double() if in_double else outputs).detach().requires_grad_(True)
            (exact,) = torch.autograd.grad(value(leaf, labels, targets).sum(), leaf)
        largest = exact.flatten(1).abs().amax(1)
        return (exact / per_sample(torch.where(largest > 0, largest, 1.0), exact)).to(outputs.dtype)

    return AttackLoss(value, derivative, of_raw_outputs=True)
