"""What an evaluation is asked for and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from gauntlet.registry import Spec


@dataclass(frozen=True)
class AttackPlan:
    """An attack to run: `name` is its name in the results, `spec` the component and its options.

    `epsilons` are the budgets of a bounded attack, in `norm`, in pixel units of [0, 1]; None for a minimum-norm
    attack. `surrogate` names the view of the model that gradients are taken from; `draws` is the number of passes that
    a random model's outputs and gradients are means over; `seed` addresses the attack's own draws, beside the model's
    seed.
    """

    name: str
    spec: Spec
    norm: str
    epsilons: tuple[float, ...] | None = None
    surrogate: str | None = None
    draws: int = 1
    seed: int = 0


@dataclass(frozen=True)
class EvaluationPart:
    """Results for the samples [start, stop): rows, candidates for the examples to keep, precision and errors."""

    start: int
    stop: int
    rows: pa.Table
    examples: dict[str, np.ndarray]
    precision: str
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """All rows of EVALUATION_SCHEMA in the order of the split, with precision, examples and errors.

    `precision` is that of the attack's passes; where parts differ (shards on different devices), it lists each.
    `examples` maps original and adversarial (float32 `(n, C, H, W)`), index (int64), label, clean_prediction,
    adversarial_prediction (int32), epsilon, distance and ratio (float32) to one entry per example, by index. `errors`
    has one line per sample with status error, at most ten; where it is not empty, nothing may be published.
    """

    rows: pa.Table
    precision: str
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
