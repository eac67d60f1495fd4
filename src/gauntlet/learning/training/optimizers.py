"""Optimizers by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch

# The first step of any optimizer imports it, which takes as long as torch itself; imported here, forks inherit it.
import torch._dynamo
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from gauntlet.core.errors import InputError, first_line
from gauntlet.registry import OPTIMIZERS, Fraction, NonNegativeFloat, PositiveFloat, Spec


def build_optimizer(spec: Spec, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Build an optimizer of the given parameters from its name and options.

    Raises InputError for options that the optimizer refuses.
    """
    try:
        optimizer: Optimizer = OPTIMIZERS.load(spec.name)(list(parameters), **spec.options)
    except (TypeError, ValueError) as error:
        problem, remedy = f"{spec.name} refuses its options: {first_line(error)}", "change the option that it names"
        raise InputError(problem, where="training.optimizer", remedy=remedy) from error
    return optimizer


@OPTIMIZERS.register("adam", source="Kingma and Ba 2015, arXiv:1412.6980")
def adam(
    parameters: list[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.0,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam; `weight_decay` is the factor of the L2 penalty."""
    return Adam(parameters, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad, fused=_can_be_fused(parameters))


@OPTIMIZERS.register("adamw", source="Loshchilov and Hutter 2019, arXiv:1711.05101")
def adamw(
    parameters: list[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-3,
    weight_decay: NonNegativeFloat = 0.01,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay: each step also subtracts lr x `weight_decay` times the weights."""
    return AdamW(parameters, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad, fused=_can_be_fused(parameters))


@OPTIMIZERS.register("sgd", source="Sutskever et al. 2013, ICML")
def sgd(
    parameters: list[nn.Parameter],
    *,
    lr: PositiveFloat = 1e-2,
    momentum: Fraction = 0.9,
    weight_decay: NonNegativeFloat = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent; `nesterov` needs a momentum above 0."""
    if nesterov and momentum == 0:
        raise InputError("nesterov needs a momentum", where="training.optimizer", remedy="set `momentum:` above 0")
    fused = _can_be_fused(parameters)
    return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=fused)


def _can_be_fused(parameters: list[nn.Parameter]) -> bool:
    """Return whether one kernel can update all parameters, which is several times faster for small networks."""
    return all(
        parameter.dtype == torch.float32 and parameter.device.type in ("cpu", "cuda") for parameter in parameters
    )
