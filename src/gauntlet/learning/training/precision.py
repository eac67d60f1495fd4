"""Precision of a training step's passes: float32, TF32 or bfloat16.

In each of them the weights, their gradients, the optimizer's state, losses and penalties are float32 numbers, and
projections, validation and evaluation compute in IEEE float32. In forward passes, weights that each pass computes, such
as those of Lipschitz layers (power iteration, Björck's iteration), are computed in IEEE float32 too, and only the
products with them in lower precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gauntlet.core.arithmetic import float32_arithmetic, has_tf32_units
from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.errors import GauntletError, InputError, first_line
from gauntlet.learning.models.layers.batch_lip_norm import is_batch_lip_norm
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.settings import TrainingPrecision

_KEY = "training.precision"


class StepPrecision:
    """The precision of one network's passes in training steps.

    ``bfloat16`` is autocast: convolutions and products of matrices compute in bfloat16, whose exponents are those of
    float32, so that losses need no scaling (Micikevicius et al. 2018, arXiv:1710.03740; Kalamkar et al. 2019,
    arXiv:1905.12322). The network's head, on whose raw outputs the loss is computed, is float32: a tanh that bfloat16
    rounds to 1 has no gradient. A user's module without head computes its logits in bfloat16, and they become float32.
    ``tf32`` computes the products of the step in TF32, those of penalties and of all backward passes included; only in
    forward passes those of constrained weights and of the head are IEEE float32.

    Raises InputError for ``tf32`` on a device without TF32, on which the recipe would mean something else.
    """

    def __init__(self, precision: TrainingPrecision, network: Network, device: torch.device) -> None:
        if precision == "tf32" and not has_tf32_units(device):
            problem = f"the device {device} does not compute in tf32, only NVIDIA GPUs from compute capability 8.0 do"
            remedy = "train on such a GPU, or set `training.precision` to float32 or bfloat16"
            raise InputError(problem, where=_KEY, remedy=remedy)
        self.precision, self.network, self.device = precision, network, device
        modules = list(network.modules())
        self._computed = [
            (module, name)
            for module in modules
            if parametrize.is_parametrized(module)
            for name in module.parametrizations  # type: ignore[union-attr]
        ]
        # The layer of deel-torchlip sums statistics of an epoch, from which a Lipschitz constant is computed.
        self._exact: list[nn.Module] = [network.head, *filter(is_batch_lip_norm, modules)]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Compute the network's raw outputs inside in this precision, those of adversaries included.

        Raises GauntletError for a network that cannot compute in bfloat16.
        """
        if self.precision == "float32":
            yield
            return
        replaced: list[tuple[nn.Module, str, Callable[..., Tensor]]] = [(self.network, "outputs", self._outputs)]
        replaced += [(module, "forward", self._in_float32) for module in self._exact]
        before = [vars(module).get(name) for module, name, _ in replaced]
        for module, name, replacement in replaced:
            vars(module)[name] = partial(replacement, getattr(module, name))
        try:
            with float32_arithmetic("tf32" if self.precision == "tf32" else "ieee"):
                yield
        except (RuntimeError, TypeError) as error:
            if is_out_of_memory(error) or "bfloat16" not in str(error).lower():
                raise
            problem = f"the network cannot be trained in bfloat16: {first_line(error)}"
            remedy = "set `training.precision: float32` for this variant"
            raise GauntletError(problem, remedy=remedy) from error
        finally:
            for (module, name, _), own in zip(replaced, before, strict=True):
                vars(module).pop(name)
                if own is not None:
                    vars(module)[name] = own

    def _outputs(self, outputs: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to raw outputs, float32."""
        with parametrize.cached():
            if self._computed:
                with self._in_ieee():
                    for module, name in self._computed:
                        getattr(module, name)
            if self.precision == "tf32":
                return outputs(images)
            with torch.autocast(self.device.type, torch.bfloat16):
                low = outputs(images)
        return _to_float32(low)

    def _in_float32(self, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Compute a layer in IEEE float32."""
        with self._in_ieee():
            return forward(_to_float32(x))

    def _in_ieee(self) -> AbstractContextManager[Any]:
        """Return the context that suspends the lower precision of the step."""
        if self.precision == "tf32":
            return float32_arithmetic()
        return torch.autocast(self.device.type, enabled=False)


def _to_float32(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 else x
