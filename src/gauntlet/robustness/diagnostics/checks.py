"""Checks of gradient masking with their thresholds, and the verdicts on their measurements."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from scipy import special

from gauntlet.core.errors import InputError, nearest
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA

Verdict = Literal["pass", "warn", "fail", "not_enough_samples", "not_applicable"]

DIAGNOSTICS_SCHEMA = pa.schema(
    [
        *(MEASUREMENT_SCHEMA.field(name) for name in ("experiment", "variant", "seed", "check", "norm", "value")),
        ("threshold", pa.float64()),
        ("verdict", pa.string()),
        *(MEASUREMENT_SCHEMA.field(name) for name in ("evidence", "samples")),
    ]
)
"""One row per model and check, and norm where it has one: a measurement (see MEASUREMENT_SCHEMA) and its verdict.

`verdict` is pass, warn, fail, not_enough_samples (too few to see a share at the threshold of fail) or not_applicable
(`value` and `threshold` are then null). `threshold` is the threshold of the verdict, which `value` exceeds; for pass
and not_enough_samples, that of warn.
"""

PINTOR = "Pintor et al. 2022, arXiv:2106.09947"
CARLINI = "Carlini et al. 2019, arXiv:1902.06705"
ATHALYE = "Athalye, Carlini, Wagner 2018, arXiv:1802.00420"


_MISSED = 0.2
"""Highest probability with which a true share at the threshold of fail may leave no trace in a check that passes."""


@dataclass(frozen=True)
class Check:
    """A question about a model; a value above `warn` or `fail` gets that verdict if it counts `min_samples` or more.

    `origin` says what is measured: the model, by a probe, or the rows of its evaluations. With `beyond_chance`, a share
    fails if the lower limit of its one-sided 95 % interval (Clopper and Pearson 1934) is above `fail`. With
    `is_share`, a value that would pass does so only if a true share of `fail` is seen in that many samples with a
    probability of 80 % or more. `flag` states what a failure means for a number under attack,
    and `of_accuracy` that it concerns clean and certified accuracy too.
    """

    name: str
    question: str
    warn: float
    fail: float
    source: str
    origin: Literal["probe", "evaluations"]
    min_samples: int = 2
    beyond_chance: bool = False
    is_share: bool = True
    flag: str = "gradients look masked"
    of_accuracy: bool = False

    def verdict(self, value: float | None, count: int, total: int) -> tuple[Verdict, float | None]:
        """Return the verdict on a value, a share of `count` in `total` samples, and its threshold."""
        if value is None:
            return "not_applicable", None
        lowest = lower_limit(count, total) if self.beyond_chance else value
        if count >= self.min_samples and lowest > self.fail:
            return "fail", self.fail
        if count >= self.min_samples and value > self.warn:
            return "warn", self.warn
        if self.is_share and (1 - self.fail) ** total > _MISSED:
            return "not_enough_samples", self.warn
        return "pass", self.warn


def lower_limit(count: int, total: int) -> float:
    """Return the lower limit of the one-sided 95 % Clopper-Pearson interval of a share."""
    return float(special.betaincinv(count, total - count + 1, 0.05)) if count else 0.0


_CHECKS = (
    Check(
        "accuracy_at_chance",
        "Could the clean accuracy come from always answering with the most frequent label?",
        warn=0.001,
        fail=0.05,
        source="exact binomial test",
        origin="probe",
        min_samples=0,
        is_share=False,
        flag="the accuracy is at chance",
        of_accuracy=True,
    ),
    Check(
        "one_step_beats_many",
        "Does a single gradient step fool samples that iterative attacks miss at the same ε?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
        beyond_chance=True,
    ),
    Check(
        "black_box_beats_white_box",
        "Does an attack without gradients, or a transferred one, fool samples that gradient attacks miss?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
        beyond_chance=True,
    ),
    Check(
        "noise_beats_gradients",
        "Does random noise fool samples that gradient attacks miss?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
        beyond_chance=True,
    ),
    Check(
        "adaptive_beats_stock",
        "Does an attack through another view of the model fool samples that attacks on its logits miss?",
        warn=0.02,
        fail=0.10,
        source="Tramèr et al. 2020, arXiv:2002.08347",
        origin="evaluations",
        beyond_chance=True,
    ),
    Check(
        "nonfinite_in_attacks",
        "Did gradient attacks meet gradients that are not finite?",
        warn=0.0,
        fail=0.05,
        source=CARLINI,
        origin="evaluations",
        min_samples=1,
    ),
    Check(
        "zero_in_attacks",
        "Did gradient attacks meet gradients that are exactly zero?",
        warn=0.01,
        fail=0.10,
        source=f"{PINTOR}, unavailable gradients",
        origin="evaluations",
    ),
    Check(
        "margin_beats_cross_entropy",
        "Does PGD on the margin or DLR fool samples that PGD on the cross-entropy misses?",
        warn=0.01,
        fail=0.03,
        source=f"{CARLINI}; Croce and Hein 2020, arXiv:2003.01690",
        origin="probe",
        beyond_chance=True,
        flag="another loss fools more",
    ),
    Check(
        "zero_gradients",
        "Is the gradient of the cross-entropy exactly zero, even rescaled so that it cannot underflow?",
        warn=0.0,
        fail=0.05,
        source=f"{PINTOR}, unavailable gradients",
        origin="probe",
        min_samples=1,
    ),
    Check(
        "nonfinite_gradients",
        "Is the gradient of the plain cross-entropy not finite?",
        warn=0.0,
        fail=0.05,
        source=CARLINI,
        origin="probe",
        min_samples=1,
    ),
    Check(
        "wrong_gradients",
        "Do the outputs change in small steps as the gradient does not predict?",
        warn=0.05,
        fail=0.25,
        source=f"{ATHALYE}, section 3: shattered gradients, which are nonexistent or incorrect",
        origin="probe",
    ),
    Check(
        "saturated_outputs",
        "Is the gradient of an output exactly zero?",
        warn=0.05,
        fail=0.25,
        source=f"{PINTOR}, unavailable gradients, per output",
        origin="probe",
    ),
    Check(
        "silent_success",
        "Does plain PGD pass adversarial points and return a point that is not adversarial?",
        warn=0.05,
        fail=0.20,
        source=f"{PINTOR}, silent success",
        origin="probe",
    ),
    Check(
        "incomplete_optimisation",
        "Does plain PGD fail although it still makes progress?",
        warn=0.30,
        fail=0.50,
        source=f"{PINTOR}, incomplete optimization",
        origin="probe",
    ),
    Check(
        "unstable_predictions",
        "How much does the margin change within a tenth of ε?",
        warn=0.15,
        fail=0.30,
        source=f"{PINTOR}, unstable predictions",
        origin="probe",
        is_share=False,
    ),
    Check(
        "unbounded_budget",
        "Does PGD fail even if any image is allowed?",
        warn=0.0,
        fail=0.05,
        source=f"{CARLINI}; {PINTOR}, unconstrained attack failure",
        origin="probe",
        min_samples=1,
    ),
    Check(
        "more_steps",
        "Does PGD with four times the steps fool more?",
        warn=0.05,
        fail=0.10,
        source=CARLINI,
        origin="probe",
    ),
    Check(
        "more_restarts",
        "Does PGD with four random starts fool more than with one?",
        warn=0.10,
        fail=0.20,
        source=CARLINI,
        origin="probe",
    ),
    Check(
        "surrogate_beats_stock",
        "Do plain gradients through another view of the model fool samples that gradients of its logits miss?",
        warn=0.05,
        fail=0.10,
        source="Tramèr et al. 2020, arXiv:2002.08347",
        origin="probe",
    ),
    Check(
        "non_transferability",
        "Does the model predict another class than the view that the attack took its gradients from?",
        warn=0.10,
        fail=0.25,
        source=f"{PINTOR}, transfer failure",
        origin="probe",
    ),
)

CHECKS: Mapping[str, Check] = {check.name: check for check in _CHECKS}
"""Every check, by name, in the order of tables."""


def add_verdicts(measurements: pa.Table) -> pa.Table:
    """Add verdicts to rows of MEASUREMENT_SCHEMA: rows of DIAGNOSTICS_SCHEMA in the same order.

    Raises InputError for an unknown check.
    """
    rows = []
    for row in measurements.to_pylist():
        if row["check"] not in CHECKS:
            raise InputError(f"unknown check '{row['check']}'", remedy=nearest(row["check"], CHECKS))
        verdict, threshold = CHECKS[row["check"]].verdict(row["value"], row["count"], row["total"])
        rows.append({**row, "verdict": verdict, "threshold": threshold})
    return pa.Table.from_pylist(rows, schema=DIAGNOSTICS_SCHEMA)


Flags = Mapping[tuple[str, str], tuple[str, ...]]
"""(variant, norm) to the checks that a model of the variant fails; those of norm "" apply to every norm."""


def collect_flags(diagnostics: pa.Table) -> Flags:
    """Collect the failed checks of each variant and norm: one failing model flags its variant."""
    failing: dict[tuple[str, str], dict[str, None]] = {}
    for row in diagnostics.to_pylist():
        if row["verdict"] == "fail":
            failing.setdefault((row["variant"], row["norm"] or ""), {})[row["check"]] = None
    return {key: _ordered(checks) for key, checks in failing.items()}


def probed_models(diagnostics: pa.Table) -> set[tuple[str, int]]:
    """Return the (variant, seed) that were probed; comparisons of attacks alone are no diagnosis."""
    return {
        (row["variant"], row["seed"])
        for row in diagnostics.select(["variant", "seed", "check"]).to_pylist()
        if row["check"] in CHECKS and CHECKS[row["check"]].origin == "probe"
    }


def flags_for(flags: Flags, variant: str, norm: str, losses: Collection[str] | None = ()) -> tuple[str, ...]:
    """Return the checks that flag a variant's number in a norm: those of the norm, and those without one.

    `losses` are the losses that the attacks behind the number ascend, empty if unknown, None if none takes gradients: a
    better loss than the cross-entropy flags only numbers that rest on the cross-entropy alone.
    """
    failed = {*flags.get((variant, norm), ()), *flags.get((variant, ""), ())}
    if losses is None or set(losses) - {"cross_entropy"}:
        failed.discard("margin_beats_cross_entropy")
    return _ordered(failed)


def accuracy_flags(flags: str | None) -> str:
    """Return those failed checks of a summary row, joined by commas, that flag accuracy without an attack too."""
    return ", ".join(name for name in (flags or "").split(", ") if name in CHECKS and CHECKS[name].of_accuracy)


def _ordered(checks: Iterable[str]) -> tuple[str, ...]:
    """Order checks as in tables; those of another version, which are unknown here, come last."""
    failed = set(checks)
    return (*(name for name in CHECKS if name in failed), *sorted(failed - set(CHECKS)))


def worst_verdict(verdicts: Iterable[str]) -> Any:
    """Return the most severe verdict."""
    by_severity = ("fail", "warn", "not_enough_samples", "pass", "not_applicable")
    return min(verdicts, key=by_severity.index, default="not_applicable")
