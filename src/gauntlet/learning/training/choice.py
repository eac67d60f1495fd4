"""The choice among trained models by their validation figures; test data have no part in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import pyarrow as pa

VALIDATION_FIGURES = ("validation_loss", "validation_accuracy", "robust_validation_accuracy")


@dataclass(frozen=True)
class ValidationFigures:
    """Figures of one model on the validation split, after the epoch whose weights were kept.

    None if not measured, or not finite.

    `epoch` counts from 1, and is None for a model that was not trained here.
    """

    epoch: int | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    robust_validation_accuracy: float | None = None


def kept_figures(history: pa.Table, kept_epoch: int) -> ValidationFigures:
    """Return the figures of the epoch whose weights a training kept, from its history.

    Raises ValueError if the history has no such epoch.
    """
    kept = history.slice(history["epoch"].to_pylist().index(kept_epoch), 1).to_pylist()[0]
    return ValidationFigures(kept_epoch, **{name: _finite(kept[name]) for name in VALIDATION_FIGURES})


def mean_score(figures: Sequence[ValidationFigures], by: str) -> float | None:
    """Return the mean of a figure over models; None if any of them does not have it."""
    known = [value for model in figures if (value := getattr(model, by)) is not None]
    return fmean(known) if known and len(known) == len(figures) else None


def best_candidate(scores: Mapping[str, float | None], by: str) -> str | None:
    """Return the candidate of the best score: the lowest loss or the highest accuracy, the first among equals.

    A candidate without a score is never chosen; None if no candidate has one.
    """
    known = {name: score for name, score in scores.items() if score is not None}
    # Both functions return the first of several equals.
    return (min if by == "validation_loss" else max)(known, key=lambda name: known[name], default=None)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
