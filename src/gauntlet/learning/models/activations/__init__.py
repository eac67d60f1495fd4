"""Activations: what follows a layer, each output by itself; one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from gauntlet.registry import ACTIVATIONS


def build_activation(activation: Mapping[str, Any] | None) -> nn.Module:
    """Build an activation from its mapping (`name` and options; relu without one)."""
    options = dict(activation or {"name": "relu"})
    built: nn.Module = ACTIVATIONS.load(str(options.pop("name")))(**options)
    return built
