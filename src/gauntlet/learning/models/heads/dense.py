"""Dense layers of heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Layer = Callable[[int, int], nn.Module]
"""Builds a layer from features `(B, F)` to features `(B, G)`, given F and G."""


def dense(in_features: int, hidden: int, out_features: int, layer: Layer | None = None) -> nn.Sequential:
    """Build a dense layer after one hidden layer with relu, or after none if `hidden` is 0; plain ones by default."""
    build = nn.Linear if layer is None else layer
    if hidden == 0:
        return nn.Sequential(build(in_features, out_features))
    return nn.Sequential(build(in_features, hidden), nn.ReLU(), build(hidden, out_features))
