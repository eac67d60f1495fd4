"""Exponential linear unit."""

from __future__ import annotations

from torch import nn

from gauntlet.registry import ACTIVATIONS, PositiveFloat


@ACTIVATIONS.register("elu", source="Clevert, Unterthiner, Hochreiter 2016, arXiv:1511.07289")
class Elu(nn.ELU):
    """x for x > 0, else alpha (exp(x) - 1)."""

    def __init__(self, *, alpha: PositiveFloat = 1.0) -> None:
        super().__init__(alpha)
