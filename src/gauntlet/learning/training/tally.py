"""Values of an epoch's training steps, and the metrics that they give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gauntlet.learning.losses.kantorovich import kantorovich_rubinstein


@dataclass(frozen=True)
class TrainingMetrics:
    """Loss, accuracy, Kantorovich-Rubinstein term and penalty of an epoch's batches; None without one or if not finite.

    The weights change from batch to batch.
    """

    loss: float | None
    accuracy: float
    kr: float | None
    penalty: float | None


@dataclass
class Tally:
    """Values collected during an epoch.

    The loss `()` and the number of images of each step, the number of correct predictions `()`, and the seconds; the
    penalty `()` of each step with a regularizer; and for a loss with a Kantorovich-Rubinstein term the outputs
    `(B, K)` and labels `(B,)` of each batch. Negatives count in the losses only.
    """

    losses: list[Tensor] = field(default_factory=list)
    penalties: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    correct: Tensor | None = None
    outputs: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def metrics(self) -> TrainingMetrics:
        """Compute the metrics of the steps so far; there must be one."""
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        loss = (torch.stack(self.losses).double().cpu() * sizes).sum() / sizes.sum()
        correct = 0 if self.correct is None else int(self.correct)
        kr = kantorovich_rubinstein(torch.cat(self.outputs), torch.cat(self.labels)) if self.outputs else None
        penalty = torch.stack(self.penalties).double().mean() if self.penalties else None
        return TrainingMetrics(_finite(loss), correct / float(sizes.sum()), _finite(kr), _finite(penalty))


def _finite(value: Tensor | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
