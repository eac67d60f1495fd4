"""One row per epoch of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

HISTORY_SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("train_loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("robust_validation_loss", pa.float64()),
        ("robust_validation_accuracy", pa.float64()),
        ("selection_loss", pa.float64()),
        ("train_kr", pa.float64()),
        ("kr", pa.float64()),
        ("learning_rate", pa.float64()),
        ("penalty", pa.float64()),
        ("sampled_accuracy", pa.float64()),
        ("collapsed", pa.bool_()),
        ("ramps_frozen", pa.bool_()),
        ("steps_per_second", pa.float64()),
        ("seconds", pa.float64()),
    ]
)

VOLATILE = ("steps_per_second", "seconds")
"""Columns that differ between two runs of the same training, and so are no part of what it made."""


@dataclass(frozen=True)
class EpochRecord:
    """What is recorded of one epoch.

    The training figures are those of the batches as they were trained on, with the weights changing meanwhile; the
    validation figures are of the whole split after the epoch, clean and, as `robust_...`, as the validation adversary
    perturbs it, or where there is none the training's, null without either. `selection_loss` is the validation loss
    that decides which epoch is kept: under the training's adversary where there is one, else the clean one. `kr` is the
    Kantorovich-Rubinstein term of the validation split and `train_kr` that of the training batches, null unless the
    loss has one. `train_loss` has the negatives' part and no penalty; `penalty` is the regularisers' mean over the
    steps, null while none is on. `sampled_accuracy` is what recovery measures on training images after the epoch, null
    where it is off; an epoch that `collapsed` was gone back behind, and a loss of it that was not finite is null, with
    what was measured after it. `ramps_frozen` says that ramps stood still for recovery's sake. `seconds` covers
    training and validation, `steps_per_second` training alone. `epoch` counts from 1, collapsed epochs included.
    """

    epoch: int
    train_loss: float | None
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    robust_validation_loss: float | None
    robust_validation_accuracy: float | None
    selection_loss: float | None
    train_kr: float | None
    kr: float | None
    learning_rate: float
    penalty: float | None
    sampled_accuracy: float | None
    collapsed: bool
    ramps_frozen: bool
    steps_per_second: float
    seconds: float


def history_table(epochs: Sequence[EpochRecord]) -> pa.Table:
    """Make the table of a run's epochs."""
    return pa.Table.from_pylist([asdict(epoch) for epoch in epochs], schema=HISTORY_SCHEMA)
