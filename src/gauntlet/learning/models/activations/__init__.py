"""Elementwise activation functions, one per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from gauntlet.registry import ACTIVATIONS


def build_activation(activation: Mapping[str, Any] | None) -> nn.Module:
    """Build an activation from a mapping of `name` and options, by default relu."""
    options = dict(activation or {"name": "relu"})
    built: nn.Module = ACTIVATIONS.load(str(options.pop("name")))(**options)
    return built
