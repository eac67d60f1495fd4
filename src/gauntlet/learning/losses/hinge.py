"""Hinge loss of error-correcting codes."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES


@LOSSES.register("hinge", outputs=("codes",), soft=True, source="Verma and Swami 2019, NeurIPS")
def hinge(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over code bits of max(0, 1 - c o) with the label's codeword c; outputs are bits `(B, L)`; returns `(B,)`."""
    code: Any = network.head.code
    return functional.relu(1 - code[labels] * outputs).mean(dim=1)
