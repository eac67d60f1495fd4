"""Training losses: functions of a network, its raw outputs and the labels; one per file.

A loss returns one value per sample, `(B,)`, or a single value `()` if it is a statistic of the whole batch. A class is
a loss with a state: a module in evaluation mode, whose buffers change in training mode only (`updating`) and are part
of the training's state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.network import Network
from gauntlet.registry import LOSSES, Spec

Loss = Callable[[Network, Tensor, Tensor], Tensor]


def build_loss(spec: Spec) -> Loss:
    """Build a loss from its name and options; a module is in evaluation mode.

    Raises InputError for a module with trainable parameters: the optimizer has those of the network only.
    """
    loaded = LOSSES.load(spec.name)
    if not inspect.isclass(loaded):
        return partial(loaded, **spec.options)
    loss: Any = loaded(**spec.options)
    if not isinstance(loss, nn.Module):
        built: Loss = loss
        return built
    if trained := [name for name, parameter in loss.named_parameters() if parameter.requires_grad]:
        problem = f"the loss {spec.name} has parameters that nothing trains ({', '.join(trained)})"
        remedy = "freeze them (`requires_grad_(False)`), or give them to the network"
        raise InputError(problem, where="loss", remedy=remedy)
    return loss.eval()


@contextmanager
def updating(loss: Loss) -> Iterator[None]:
    """Let a loss with a state update it inside the block."""
    if not isinstance(loss, nn.Module):
        yield
        return
    loss.train()
    try:
        yield
    finally:
        loss.eval()


def loss_state(loss: Loss) -> dict[str, Tensor]:
    """Return the state of a loss, without copying it; empty for a function."""
    return {name: tensor.detach() for name, tensor in loss.state_dict().items()} if isinstance(loss, nn.Module) else {}


def load_loss_state(loss: Loss, state: dict[str, Tensor]) -> None:
    """Load a state returned by `loss_state`."""
    if isinstance(loss, nn.Module):
        loss.load_state_dict(state)
