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


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """Return channels last if a parameter or buffer has this format and is not contiguous as well, else contiguous."""
    for tensor in [*network.parameters(), *network.buffers()]:
        is_image_like = tensor.dim() == 4 and tensor.layout == torch.strided and not tensor.is_contiguous()
        if is_image_like and tensor.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
    return torch.contiguous_format
