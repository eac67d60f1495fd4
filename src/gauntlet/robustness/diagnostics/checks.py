"""Every check of gradient masking with its thresholds, and how a measurement becomes a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from gauntlet.core.errors import InputError, nearest
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA

Verdict = Literal["pass", "warn", "fail", "not_applicable"]

DIAGNOSTICS_SCHEMA = pa.schema(
    [
        *(MEASUREMENT_SCHEMA.field(name) for name in ("experiment", "variant", "seed", "check", "norm", "value")),
        ("threshold", pa.float64()),
        ("verdict", pa.string()),
        *(MEASUREMENT_SCHEMA.field(name) for name in ("evidence", "samples")),
    ]
)
"""One row per model and check, and norm where it has one: a measurement (see MEASUREMENT_SCHEMA) and its verdict.

`threshold` is what `value` was held against: above it lies what the verdict says, for pass it is where warn begins.
`verdict` is pass, warn, fail or not_applicable (`value` and `threshold` are then null).
"""

PINTOR = "Pintor et al. 2022, arXiv:2106.09947"
CARLINI = "Carlini et al. 2019, arXiv:1902.06705"
ATHALYE = "Athalye, Carlini, Wagner 2018, arXiv:1802.00420"


@dataclass(frozen=True)
class Check:
    """One question to a model. Values above `warn` or `fail` get that verdict where `least` samples are concerned.

    `origin` says where the measurement is made: by a probe of the model, or from the rows of its evaluations.
    """

    name: str
    question: str
    warn: float
    fail: float
    source: str
    origin: Literal["probe", "evaluations"]
    least: int = 2

    def verdict(self, value: float | None, count: int) -> tuple[Verdict, float | None]:
        """Judge a value that concerns `count` samples; give the verdict and the threshold it was held against."""
        if value is None:
            return "not_applicable", None
        if count >= self.least and value > self.fail:
            return "fail", self.fail
        if count >= self.least and value > self.warn:
            return "warn", self.warn
        return "pass", self.warn


_ALL = (
    Check(
        "one_step_beats_many",
        "Does a single gradient step fool samples that iterative attacks miss at the same ε?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
    ),
    Check(
        "black_box_beats_white_box",
        "Does an attack without gradients, or a transferred one, fool samples that gradient attacks miss?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
    ),
    Check(
        "noise_beats_gradients",
        "Does random noise fool samples that gradient attacks miss?",
        warn=0.01,
        fail=0.05,
        source=f"{ATHALYE}, section 3.1; {CARLINI}",
        origin="evaluations",
    ),
    Check(
        "adaptive_beats_stock",
        "Does an attack through another view of the model fool samples that attacks on its logits miss?",
        warn=0.02,
        fail=0.10,
        source="Tramèr et al. 2020, arXiv:2002.08347",
        origin="evaluations",
    ),
    Check(
        "nonfinite_in_attacks",
        "Did gradient attacks meet gradients that are not finite?",
        warn=0.0,
        fail=0.05,
        source=CARLINI,
        origin="evaluations",
        least=1,
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
        "zero_gradients",
        "Is the gradient of the plain cross-entropy exactly zero?",
        warn=0.0,
        fail=0.05,
        source=f"{PINTOR}, unavailable gradients",
        origin="probe",
        least=1,
    ),
    Check(
        "nonfinite_gradients",
        "Is the gradient of the plain cross-entropy not finite?",
        warn=0.0,
        fail=0.05,
        source=CARLINI,
        origin="probe",
        least=1,
    ),
    Check(
        "saturated_outputs",
        "Does an output that the prediction is made from have a gradient of exactly zero?",
        warn=0.05,
        fail=0.25,
        source=f"{PINTOR}, unavailable gradients, asked of each output",
        origin="probe",
    ),
    Check(
        "silent_success",
        "Does plain PGD pass adversarial points and return one that is none?",
        warn=0.05,
        fail=0.20,
        source=f"{PINTOR}, silent success",
        origin="probe",
    ),
    Check(
        "incomplete_optimisation",
        "Does plain PGD fail while it still gets on?",
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
    ),
    Check(
        "unbounded_budget",
        "Does PGD fail even where any image is allowed?",
        warn=0.0,
        fail=0.05,
        source=f"{CARLINI}; {PINTOR}, unconstrained attack failure",
        origin="probe",
        least=1,
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
        "Do plain gradients through another view of the model fool samples that those of its logits miss?",
        warn=0.05,
        fail=0.10,
        source="Tramèr et al. 2020, arXiv:2002.08347",
        origin="probe",
    ),
    Check(
        "non_transferability",
        "Does the model give another class than the view that the attack took its gradients from?",
        warn=0.10,
        fail=0.25,
        source=f"{PINTOR}, transfer failure",
        origin="probe",
    ),
)

CHECKS: Mapping[str, Check] = {check.name: check for check in _ALL}
"""Every check, by name, in the order of tables."""


def judged(measurements: pa.Table) -> pa.Table:
    """Give rows of MEASUREMENT_SCHEMA their verdicts: rows of DIAGNOSTICS_SCHEMA in the same order.

    Raises InputError for a check that there is not.
    """
    rows = []
    for row in measurements.to_pylist():
        if row["check"] not in CHECKS:
            raise InputError(f"no check '{row['check']}'", remedy=nearest(row["check"], CHECKS))
        verdict, threshold = CHECKS[row["check"]].verdict(row["value"], row["count"])
        rows.append({**row, "verdict": verdict, "threshold": threshold})
    return pa.Table.from_pylist(rows, schema=DIAGNOSTICS_SCHEMA)


Flags = Mapping[tuple[str, str], tuple[str, ...]]
"""(variant, norm) to the checks that a model of the variant fails there; norm "" holds those without a norm."""


def flags_of(diagnostics: pa.Table) -> Flags:
    """Collect what fails: a variant is flagged when any of its models is."""
    failing: dict[tuple[str, str], dict[str, None]] = {}
    for row in diagnostics.to_pylist():
        if row["verdict"] == "fail":
            failing.setdefault((row["variant"], row["norm"] or ""), {})[row["check"]] = None
    return {key: _ordered(checks) for key, checks in failing.items()}


def flags_in(flags: Flags, variant: str, norm: str) -> tuple[str, ...]:
    """List the checks that flag a variant's numbers in a norm: those of the norm, and those without one."""
    return _ordered({*flags.get((variant, norm), ()), *flags.get((variant, ""), ())})


def _ordered(checks: Iterable[str]) -> tuple[str, ...]:
    wanted = set(checks)
    return tuple(name for name in CHECKS if name in wanted)


def worst(verdicts: Iterable[str]) -> Any:
    """Give the gravest of some verdicts."""
    gravity = ("fail", "warn", "pass", "not_applicable")
    return min(verdicts, key=gravity.index, default="not_applicable")
