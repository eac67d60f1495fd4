"""Calls of an attack on batches of samples, with counted queries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.batch_size import BatchSize
from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import AttackError, GauntletError
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.base.query_counts import COUNTERS
from gauntlet.robustness.evaluation.types import AttackSettings


class AttackRunner:
    """An attack and the model it attacks; called with any number of samples, it halves batches when memory runs out."""

    def __init__(self, model: AttackModel, attack: AttackSettings) -> None:
        self.model, self.attack = model, attack
        self.component: Callable[..., Any] = ATTACKS.load(attack.spec.name)
        self.parameters = inspect.signature(self.component).parameters
        self.makes_batches = ATTACKS.entry(attack.spec.name).tags.get("batching") == "attack"

    def __call__(
        self, x: Tensor, y: Tensor, keys: Tensor, epsilon: float | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Attack x `(B, C, H, W)`; return the images found, the plain model's logits there, and the counts."""
        returned, logits = torch.empty_like(x), []
        counts = {name: torch.zeros_like(y) for name in COUNTERS}

        def attack(part: slice) -> None:
            returned[part] = self._call(x[part], y[part], keys[part], epsilon)
            logits.append(self.model.final_logits(returned[part].clamp(0.0, 1.0)))
            for name, total in counts.items():
                total[part] = self.model.counts.totals[name]

        # An attack that makes its own batches gets all samples; fewer only where a single pass does not fit.
        memory = BatchSize(len(x), self.model.device) if self.makes_batches else self.model.memory
        for _ in memory.parts(len(x), attack):
            pass
        return returned, torch.cat(logits), counts

    def _call(self, x: Tensor, y: Tensor, keys: Tensor, epsilon: float | None) -> Tensor:
        name = self.attack.spec.name
        supplied: dict[str, Any] = {"norm": self.attack.norm, "keys": keys}
        if epsilon is not None:
            supplied["epsilon"] = epsilon
        arguments = {key: value for key, value in supplied.items() if key in self.parameters}
        self.model.start_counting(len(x))
        try:
            # Clones: an attack that works in place must not change the images that a second try starts from.
            with float32_arithmetic(self.model.arithmetic):
                result = self.component(self.model, x.clone(), y.clone(), **arguments, **self.attack.spec.options)
        except GauntletError:
            raise
        except Exception as error:  # an external attack may raise anything
            if is_out_of_memory(error):
                raise
            message = f"attack {name} raised {type(error).__name__}: {error}"
            raise device_error(error) or AttackError(message, where=self.attack.name) from error
        if not isinstance(result, Tensor) or result.shape != x.shape:
            got = f"shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
            raise AttackError(f"attack {name} returned {got} for images {tuple(x.shape)}", where=self.attack.name)
        return result.detach().to(x)
