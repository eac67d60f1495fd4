"""Training history: one row per epoch."""

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
"""Columns that differ between two runs of the same training; they are excluded from its digest."""


@dataclass(frozen=True)
class EpochRecord:
    """One row of the history.

    Training metrics are computed from the training batches while the weights change; validation metrics from the
    whole split after the epoch: clean, and as `robust_...` under the validation adversary, or under the training
    adversary if there is no other, null without either. `selection_loss` is the validation loss that selects the epoch
    with `keep: best`: under the training adversary if there is one, else clean. `kr` is the Kantorovich-Rubinstein term
    of the validation split, `train_kr` that of the training batches, null unless the loss has one. `train_loss`
    includes negatives but no penalty; `penalty` is the mean over the steps of the regularizers' sum, null before they
    start.
    `sampled_accuracy` is the accuracy that recovery measures on training images after the epoch, null if recovery is
    off. After an epoch that `collapsed` training returned to an earlier one; a non-finite loss is null, and so are the
    metrics that would have been measured after it. `ramps_frozen` is true if recovery froze the ramps. `seconds` covers
    training and validation, `steps_per_second` only training. `epoch` counts from 1, collapsed epochs included.
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
    """Return a run's epochs as a table."""
    return pa.Table.from_pylist([asdict(epoch) for epoch in epochs], schema=HISTORY_SCHEMA)
