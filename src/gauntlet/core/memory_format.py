"""Memory format of a network's parameters and buffers."""

from __future__ import annotations

import torch
from torch import nn


def set_memory_format(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Convert the parameters and buffers of four dimensions, in place; no stored value changes.

    `Module.to` would also convert those of five, for which channels last is undefined.
    """
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.dim() == 4 and tensor.layout == torch.strided:
            tensor.data = tensor.data.to(memory_format=memory_format)
