"""State of a training run: everything that its remaining steps depend on."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.learning.training.history import EpochRecord
from gauntlet.learning.training.tally import Tally

Weights = dict[str, Tensor]


def snapshot(module: nn.Module) -> Weights:
    """Copy a module's parameters and buffers, including those of constrained layers."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@dataclass
class BestEpoch:
    """The best epoch (from 1) so far, by its `score` on the validation split, and the kept weights.

    The score is the loss, or minus the accuracy, under the adversary if there is one; lower is better. An epoch after
    which `ramps_rising` was true is better than none, and worse than any other. The kept weights are those of epoch
    `kept`: of the best epoch, or of the last one that has not collapsed.
    """

    epoch: int
    score: float
    ramps_rising: bool
    weights: Weights
    kept: int


@dataclass
class RecoveryState:
    """State that training returns to after a collapse, and the number of collapses so far.

    `weights`, `optimizer`, `accuracy` and the state of the `loss` are those after the last good epoch `epoch` (from 1;
    0: before training). Ramps are frozen through epoch `frozen_until`.
    """

    weights: Weights
    optimizer: dict[str, Any]
    epoch: int = 0
    accuracy: float | None = None
    collapses: int = 0
    frozen_until: int = 0
    loss: Weights = field(default_factory=dict)


@dataclass
class AverageState:
    """Averaged weights, with the buffers of the network, and the number of steps in the average."""

    weights: Weights
    steps: int


@dataclass
class TrainingState:
    """State of a run between two steps: `epochs` finished epochs, and `step` steps of the next one.

    A run that continues from it ends with the same bytes as an uninterrupted one: image order, augmentation, mixing,
    negatives and the network's own random draws are functions of seed, epoch and step.
    """

    epochs: int
    step: int
    weights: Weights
    optimizer: dict[str, Any]
    best: BestEpoch | None
    history: list[EpochRecord]
    tally: Tally
    recovery: RecoveryState | None = None
    loss: Weights = field(default_factory=dict)
    average: AverageState | None = None

    @property
    def seconds(self) -> float:
        """Seconds of training and validation so far."""
        return sum(epoch.seconds for epoch in self.history) + self.tally.seconds

    def copy(self) -> TrainingState:
        """Return a deep copy, which further training does not change."""
        return copy.deepcopy(self)

    def to(self, device: str | torch.device) -> TrainingState:
        """Return a copy with all tensors on a device."""
        moved: TrainingState = _moved(self.copy(), torch.device(device))
        return moved


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    if isinstance(value, TrainingState | BestEpoch | Tally | RecoveryState | AverageState):
        for name, item in vars(value).items():
            setattr(value, name, _moved(item, device))
    return value
