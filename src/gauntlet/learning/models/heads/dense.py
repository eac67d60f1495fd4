"""Dense layers of heads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

Layer = Callable[[int, int], nn.Module]
"""Builds a layer from features `(B, F)` to features `(B, G)`, given F and G."""


BuildActivation = Callable[[], nn.Module]
"""Builds an activation function."""


def dense(
    in_features: int,
    hidden: int,
    out_features: int,
    layer: Layer | None = None,
    activation: BuildActivation | None = None,
) -> nn.Sequential:
    """Build a dense layer after one hidden layer with an activation, or after none if `hidden` is 0.

    Layers are plain ones and the activation is relu by default.
    """
    build, build_activation = layer or nn.Linear, activation or nn.ReLU
    if hidden == 0:
        return nn.Sequential(build(in_features, out_features))
    return nn.Sequential(build(in_features, hidden), build_activation(), build(hidden, out_features))
