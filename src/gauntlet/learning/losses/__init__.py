"""Training losses: functions of a network, its raw outputs and the labels; one loss a file.

A loss returns one value per sample, `(B,)`, or a single value `()` where it is a statistic of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Spec

Loss = Callable[[Network, Tensor, Tensor], Tensor]


def build_loss(spec: Spec) -> Loss:
    """Load a loss and bind its options."""
    return partial(LOSSES.load(spec.name), **spec.options)
