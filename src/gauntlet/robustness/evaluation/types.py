"""Input and results of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from gauntlet.registry import ATTACKS, Spec

FEWEST_STEPS = 5
"""Number of steps from which later steps make up for the rounding or the size of a single one."""


@dataclass(frozen=True)
class AttackSettings:
    """An attack to run: `name` is its name in the results, `spec` the component and its options.

    `epsilons` are the budgets of a bounded attack, in `norm` and pixel units of [0, 1]; None for a minimum-norm attack.
    `surrogate` names the view of the model that gradients are taken from. `draws` is the number of passes over which
    outputs and gradients of a random model are averaged. `seed` and the model's seed address the attack's random draws.
    """

    name: str
    spec: Spec
    norm: str
    epsilons: tuple[float, ...] | None = None
    surrogate: str | None = None
    draws: int = 1
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of steps: the option of this name, else the attack's tag, else FEWEST_STEPS."""
        steps = self.spec.options.get("steps")
        if isinstance(steps, int):  # a user's attack may mean anything else by the option
            return steps
        return int(ATTACKS.entry(self.spec.name).tags.get("steps", FEWEST_STEPS))

    @property
    def has_few_steps(self) -> bool:
        """True for an attack of fewer than FEWEST_STEPS steps."""
        return self.steps < FEWEST_STEPS


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
    """Results for all samples; `rows` follow EVALUATION_SCHEMA, in the order of the split.

    `precision` is the precision of the attack's passes; if parts differ (shards on different devices), it lists each.
    `examples` maps original and adversarial (float32 `(n, C, H, W)`), index (int64), label, clean_prediction,
    adversarial_prediction (int32), epsilon, distance (float64) and ratio (float32) to one entry per example, by index.
    `errors` has one line per sample with status error, at most ten; unless it is empty, nothing may be published.
    """

    rows: pa.Table
    precision: str
    examples: dict[str, np.ndarray] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
