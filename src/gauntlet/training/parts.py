"""A large batch through a network in parts that stay in the processor's cache."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from gauntlet.models.network import Network

PART = 256
"""Images a part: a step of 4096 takes 0.4 times as long in parts of 256 as in one (`benchmarks/training.py`)."""


def outputs_in_parts(network: Network, images: Tensor) -> Tensor:
    """Map images `(B, C, H, W)` to the head's raw outputs, as `network.outputs` does; the graph reaches all parts.

    On the CPU alone, and only where a network says that its samples do not depend on each other. Weights behind a
    parametrisation are computed once for all parts.
    """
    if images.device.type != "cpu" or len(images) <= PART or not network.samples_are_independent:
        return network.outputs(images)
    with parametrize.cached():
        return torch.cat([network.outputs(part) for part in images.split(PART)])
