"""Where a training run stands: everything that its remaining steps depend on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.learning.training.history import EpochRecord

Weights = dict[str, Tensor]


def snapshot(module: nn.Module) -> Weights:
    """Copy a module's parameters and buffers, those of constrained layers included."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@dataclass
class BestEpoch:
    """The weights with the lowest validation loss so far (under the adversary, if any), and of which epoch (from 1)."""

    epoch: int
    validation_loss: float
    weights: Weights


@dataclass
class Tally:
    """What an epoch has gathered so far.

    A loss `()` and a number of images per step, the correct predictions `()`, the seconds; a penalty `()` per step
    where a regulariser is on; and for a loss with a Kantorovich-Rubinstein term the outputs `(B, K)` and labels `(B,)`
    of every batch. Negatives count in the losses alone.
    """

    losses: list[Tensor] = field(default_factory=list)
    penalties: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    correct: Tensor | None = None
    outputs: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class RecoveryState:
    """What a collapse goes back to, and what came of earlier ones.

    `weights` and `optimizer` are those after the good epoch `epoch` (from 1; 0: before the first), `accuracy` what was
    measured then; ramps stand still up to and with epoch `frozen_until`.
    """

    weights: Weights
    optimizer: dict[str, Any]
    epoch: int = 0
    accuracy: float | None = None
    collapses: int = 0
    frozen_until: int = 0


@dataclass
class TrainingState:
    """A run between two steps: `epochs` finished epochs, and `step` steps of the one after them.

    Nothing else is needed to go on to the same final bytes: the order of the images, the augmentation, the
    negatives and the network's own draws are functions of seed, epoch and step.
    """

    epochs: int
    step: int
    weights: Weights
    optimizer: dict[str, Any]
    best: BestEpoch | None
    history: list[EpochRecord]
    tally: Tally
    recovery: RecoveryState | None = None

    def copy(self) -> TrainingState:
        """Copy everything, so that training on does not change it."""
        return copy.deepcopy(self)

    def to(self, device: str | torch.device) -> TrainingState:
        """Move every tensor to a device."""
        moved: TrainingState = _moved(self.copy(), torch.device(device))
        return moved


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    if isinstance(value, TrainingState | BestEpoch | Tally | RecoveryState):
        for name, item in vars(value).items():
            setattr(value, name, _moved(item, device))
    return value
