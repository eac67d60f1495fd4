"""State and modes of a model before an experiment, put back where the model changed them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StateRecord:
    """Copy of a model's state dict, and whether each of its layers is in train mode."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.before = {name: value.detach().clone() for name, value in _tensors(network).items()}
        self.modes = _modes(network)

    @torch.no_grad()
    def restore(self) -> str | None:
        """Put back what changed, and return the name of the first changed entry; None if none changed."""
        changed = None
        now = _tensors(self.network)
        for name, before in self.before.items():
            value = now.get(name)
            if value is None or value.shape != before.shape:
                changed = changed or name
            elif not _equal(value, before):
                changed = changed or name
                value.copy_(before)
        for name, module in self.network.named_modules():
            before_mode = self.modes.get(name)
            if before_mode is not None and getattr(module, "training", before_mode) != before_mode:
                changed = changed or f"train mode of {name or type(module).__name__}"
                module.training = before_mode
        return changed or next(iter(now.keys() - self.before.keys()), None)


def _modes(network: nn.Module) -> dict[str, bool]:
    modes = {name: getattr(module, "training", None) for name, module in network.named_modules()}
    return {name: mode for name, mode in modes.items() if mode is not None}


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}


def _equal(value: Tensor, before: Tensor) -> bool:
    same = value == before
    return bool((same | (value.isnan() & before.isnan())).all() if value.is_floating_point() else same.all())
