"""First weights: Glorot's uniform distribution and zero biases, as in the source documents."""

from __future__ import annotations

from torch import nn


def glorot(module: nn.Module) -> None:
    """Draw the weights of every convolution and dense layer, biases 0 (Glorot and Bengio 2010), from torch's generator.

    torch's own default is several times smaller; with it a tanh output under the hinge loss learns slowly, and on a
    small data set some seeds lose a class.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
