"""Rectified linear unit."""

from __future__ import annotations

from torch import nn

from gauntlet.registry import ACTIVATIONS


@ACTIVATIONS.register("relu", source="Nair and Hinton 2010, ICML")
class Relu(nn.ReLU):
    """max(0, x)."""

    def __init__(self) -> None:
        super().__init__()
