"""State of a model before an experiment, put back where the model changed it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StateRecord:
    """Copy of a model's state dict."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.before = {name: value.detach().clone() for name, value in _tensors(network).items()}

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
        return changed or next(iter(now.keys() - self.before.keys()), None)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}


def _equal(value: Tensor, before: Tensor) -> bool:
    same = value == before
    return bool((same | (value.isnan() & before.isnan())).all() if value.is_floating_point() else same.all())
