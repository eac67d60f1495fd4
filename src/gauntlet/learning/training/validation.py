"""Metrics of a network on the validation split, clean and under an adversary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.losses import Loss
from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import Adversary, perturbed_images

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Metrics:
    """Training loss and accuracy on a split, and the Kantorovich-Rubinstein term of a loss that has one."""

    loss: float
    accuracy: float
    kr: float | None


@torch.no_grad()
def clean_metrics(network: Network, loss: Loss, split: Split | StoredSplit, *, has_kr: bool = False) -> Metrics:
    """Compute the metrics of a network in evaluation mode on the images of a split."""
    device = split.labels.device
    parts = [network.outputs(to_unit(images.to(device))) for images in split.images.split(EVALUATION_BATCH)]
    return _metrics(network, loss, torch.cat(parts), split.labels, has_kr=has_kr)


@torch.no_grad()
def robust_metrics(
    network: Network, loss: Loss, split: Split | StoredSplit, adversary: Adversary, *, keys: Tensor, batch_size: int
) -> Metrics:
    """Compute the metrics of a network in evaluation mode on images that an adversary perturbs at full strength.

    `keys`, int64 `(N,)`, seed the draws of each sample. The loss is the training loss of the perturbed images, without
    other terms of the adversary's objective, so that it is comparable between adversaries.
    """
    parts = []
    # The gradients for a batch of the training's own size are known to fit in memory.
    for rows in torch.arange(len(split), device=split.labels.device).split(batch_size):
        images, labels = to_unit(split.images[rows].to(rows.device)), split.labels[rows]
        perturbed = perturbed_images(adversary, network, loss, images, labels, keys=keys[rows])
        parts.append(network.outputs(perturbed))
    return _metrics(network, loss, torch.cat(parts), split.labels)


def _metrics(network: Network, loss: Loss, outputs: Tensor, labels: Tensor, *, has_kr: bool = False) -> Metrics:
    # Computed over the whole split at once: a batch statistic is not the mean of the statistics of smaller batches.
    value = float(loss(network, outputs, labels).mean())
    accuracy = float((network.decode(outputs).argmax(dim=1) == labels).double().mean())
    return Metrics(value, accuracy, float(kantorovich_rubinstein(outputs, labels)) if has_kr else None)
