"""First weights: Glorot's uniform ones, as in the source documents, and He's normal ones, for deep or folded layers."""

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


def he(module: nn.Module, moment: float, *, bias: float = 0.0) -> None:
    """Draw the weights of every convolution and dense layer so that what they give has variance 1, biases all `bias`.

    `moment` is the mean square of the inputs: one half after relu, which gives He et al. 2015 (arXiv:1502.01852).
    """
    # He's rule with the measured half: relog gives less and a folding more, and without normalisation a factor of two
    # a layer is a factor of thousands after sixteen. Glorot's rule loses half of the square with each relu.
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=(layer.weight[0].numel() * moment) ** -0.5)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
