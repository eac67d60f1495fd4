"""The dense layers that heads share."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Layer = Callable[[int, int], nn.Module]
"""Makes a layer of features `(B, F)` to features `(B, G)` from F and G."""


def dense(in_features: int, hidden: int, out_features: int, layer: Layer | None = None) -> nn.Sequential:
    """One hidden layer with relu, or none where `hidden` is 0; `layer` makes the layers, plain ones if None."""
    make = nn.Linear if layer is None else layer
    if hidden == 0:
        return nn.Sequential(make(in_features, out_features))
    return nn.Sequential(make(in_features, hidden), nn.ReLU(), make(hidden, out_features))
