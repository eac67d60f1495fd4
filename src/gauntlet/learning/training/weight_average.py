"""Exponential moving average of the weights over training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize

from gauntlet.core.errors import InputError
from gauntlet.learning.training.buffers import buffers_restored
from gauntlet.learning.training.state import AverageState, snapshot

_STATISTICS = ("running_mean", "running_var")


class WeightAverage:
    """Moving average of a network's parameters with weight `decay` on the past, updated after each step.

    In step t, counted from 1, the weight of the past is at most (1 + t) / (10 + t), so that the initial weights do not
    linger (as in TensorFlow's ExponentialMovingAverage). The running statistics of batch and instance normalization are
    averaged in the same way: they describe the weights of the same steps, under the same adversary. All other buffers,
    such as counters of ramps, are those of the network. Source: Polyak and Juditsky 1992; Gowal et al. 2020,
    arXiv:2010.03593.

    Raises InputError for a layer that computes in evaluation with a stored weight, as spectral ones of deel-torchlip
    do: its average would be without effect.
    """

    def __init__(self, decay: float, network: nn.Module) -> None:
        for name, module in network.named_modules():
            if parametrize.is_parametrized(module) and not _uses_parameters(module):
                problem = f"averaged weights have no effect on {name}: in evaluation it computes with a stored weight"
                raise InputError(problem, where="training.ema", remedy="leave ema out for this variant (`ema: null`)")
        self.decay, self.network = decay, network
        self._averaged = {name for name, _ in network.named_parameters(remove_duplicate=False)} | {
            f"{name}.{statistic}" if name else statistic
            for name, module in network.named_modules()
            if isinstance(module, _NormBase)
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


@torch.no_grad()
def _uses_parameters(module: nn.Module) -> bool:
    """Return whether all parametrized tensors of a layer change with their parameters in evaluation mode."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        return all(_changes(module, name) for name in module.parametrizations)  # type: ignore[union-attr]
    finally:
        for part, mode in modes.items():
            part.training = mode


def _changes(module: nn.Module, name: str) -> bool:
    """Return whether a parametrized tensor changes with its parameters; True if it has none that are trained."""
    computed: Any = module.parametrizations[name]  # type: ignore[index]
    parameters = [parameter for parameter in computed.parameters() if parameter.requires_grad]
    originals = [parameter.clone() for parameter in parameters]
    with buffers_restored(module):
        before = getattr(module, name).clone()
        for parameter in parameters:
            # Not a multiple, which normalized weights do not depend on.
            parameter.add_(torch.linspace(0.5, 1.5, parameter.numel(), device=parameter.device).view_as(parameter))
        after = getattr(module, name).clone()
        for parameter, original in zip(parameters, originals, strict=True):
            parameter.copy_(original)
    return not parameters or not torch.equal(before, after)
