"""What decides a training run besides network, loss, data and seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from gauntlet.registry import Spec
from gauntlet.training.optimizers import Schedule


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    `epochs` at most; `batch_size` images a step; `patience` epochs without a lower validation loss end the run (None:
    never); `augmentation` is applied in order to every training batch, then `adversary` if there is one. With an
    adversary, the validation loss that decides is the one under attack. `validation_adversary` decides nothing: the
    validation split is measured under it after every epoch.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Spec = field(default_factory=lambda: Spec("adam"))
    schedule: Schedule = "constant"
    patience: int | None = None
    augmentation: tuple[Spec, ...] = ()
    adversary: Spec | None = None
    validation_adversary: Spec | None = None
