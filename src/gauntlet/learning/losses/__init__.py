"""Training losses: functions of a network, its raw outputs and the labels; one per file.

A loss returns one value per sample, `(B,)`, or a single value `()` if it is a statistic of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Spec

Loss = Callable[[Network, Tensor, Tensor], Tensor]


def build_loss(spec: Spec) -> Loss:
    """Build a loss from its name and options."""
    return partial(LOSSES.load(spec.name), **spec.options)
