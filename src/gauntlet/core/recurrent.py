"""Gradients of recurrent layers in evaluation mode, which cuDNN computes in training mode only.

Such layers run without cuDNN, and all others with it: cuDNN's RNNs raise "cudnn RNN backward can only be called in
training mode", and convolutions need cuDNN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_OPERATION = re.compile(r"aten::(lstm|gru|rnn_tanh|rnn_relu)\b")


class _Forward:
    """The forward of a layer, without cuDNN where its gradients are taken in evaluation mode.

    On the CPU, cuDNN's setting has no effect.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.forward = layer, layer.forward

    def __call__(self, *args: Any, **options: Any) -> Any:
        # The mode of a scripted layer is its own.
        in_training = isinstance(self.layer, nn.RNNBase) and self.layer.training
        if in_training or not torch.is_grad_enabled():
            return self.forward(*args, **options)
        # Not `cudnn.flags`, which also sets what it is not given, determinism included.
        before, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
        try:
            return self.forward(*args, **options)
        finally:
            torch.backends.cudnn.enabled = before


def enable_recurrent_gradients(network: nn.Module) -> list[nn.Module]:
    """Let recurrent layers compute gradients in evaluation mode; change `network`, a copy of our own, for good.

    Returns the layers that are changed: each `nn.RNN`, `nn.LSTM` and `nn.GRU`, and each module around a scripted one
    that has such layers, which cannot be reached.
    """
    layers = [module for module in network.modules() if _needs_it(module)]
    for layer in layers:
        layer.forward = _Forward(layer)
    return layers


@contextmanager
def recurrent_gradients(network: nn.Module) -> Iterator[None]:
    """Let recurrent layers of a network compute gradients in evaluation mode inside; it is restored afterwards."""
    before = {module: vars(module).get("forward") for module in network.modules()}
    layers = enable_recurrent_gradients(network)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
            if (own := before[layer]) is not None:
                layer.forward = own


def _needs_it(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule) or isinstance(vars(module).get("forward"), _Forward):
        return False
    return isinstance(module, nn.RNNBase) or any(_is_scripted_and_recurrent(child) for child in module.children())


def _is_scripted_and_recurrent(module: nn.Module) -> bool:
    # A frozen scripted module has the operation, and no longer the layer.
    is_scripted = isinstance(module, torch.jit.ScriptModule)
    return is_scripted and _OPERATION.search(str(getattr(module, "inlined_graph", ""))) is not None
