"""What decides a training run besides network, loss, data and seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from gauntlet.registry import Spec


@dataclass(frozen=True)
class Recovery:
    """When an epoch counts as collapsed, and what is done then.

    Collapsed: the accuracy on `samples` training images is below `threshold` times that after the last good epoch, or
    a loss was not finite. Ramps stand still for `frozen_epochs` after it; one more than `max_collapses` is the end.
    """

    threshold: float = 0.5
    samples: int = 1000
    frozen_epochs: int = 5
    max_collapses: int = 3


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained.

    `epochs` at most, collapsed ones included; `batch_size` images a step; the learning rate follows `schedule`, and
    rises in the first `warmup_epochs`; `patience` epochs without a lower validation loss end the run (None: never).
    `augmentation` is applied in order to every training batch, then `adversary` if there is one; `negatives` are made
    of the augmented images. With an adversary, the validation loss that decides is the one under attack.
    `validation_adversary` decides nothing: the validation split is measured under it after every epoch.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Spec = field(default_factory=lambda: Spec("adam"))
    schedule: Spec = field(default_factory=lambda: Spec("constant"))
    warmup_epochs: int = 0
    regularizers: tuple[Spec, ...] = ()
    patience: int | None = None
    augmentation: tuple[Spec, ...] = ()
    negatives: Spec | None = None
    adversary: Spec | None = None
    validation_adversary: Spec | None = None
    recovery: Recovery | None = None
