"""Exponential moving average of the weights over training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gauntlet.learning.training.state import AverageState, snapshot

_STATISTICS = ("running_mean", "running_var")


class WeightAverage:
    """Moving average of a network's parameters with weight `decay` on the past, updated after each step.

    In step t, counted from 1, the weight of the past is at most (1 + t) / (10 + t), so that the initial weights do not
    linger (as in TensorFlow's ExponentialMovingAverage). The running statistics of batch normalization are averaged in
    the same way: they describe the weights of the same steps, under the same adversary. All other buffers, such as
    counters of ramps, are those of the network. Source: Polyak and Juditsky 1992; Gowal et al. 2020, arXiv:2010.03593.
    """

    def __init__(self, decay: float, network: nn.Module) -> None:
        self.decay, self.network = decay, network
        self._averaged = {name for name, _ in network.named_parameters(remove_duplicate=False)} | {
            f"{name}.{statistic}" if name else statistic
            for name, module in network.named_modules()
            if isinstance(module, _BatchNorm)
            for statistic in _STATISTICS
        }
        self.state = AverageState(snapshot(network), 0)

    def restart(self) -> None:
        """Start anew from the current weights."""
        self.state = AverageState(snapshot(self.network), 0)

    @torch.no_grad()
    def update(self) -> None:
        """Add the weights after a step."""
        self.state.steps += 1
        steps = self.state.steps
        share = 1 - min(self.decay, (1 + steps) / (10 + steps))
        current = self.network.state_dict()
        for name, average in self.state.weights.items():
            if name in self._averaged:
                average.lerp_(current[name], share)
            else:
                average.copy_(current[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Load the averaged weights into the network inside the block."""
        current = snapshot(self.network)
        self.network.load_state_dict(self.state.weights)
        try:
            yield
        finally:
            self.network.load_state_dict(current)
