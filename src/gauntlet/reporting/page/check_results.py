"""Verdicts of the checks of gradient masking, with the evidence of those that warn or fail, as text for the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gauntlet.core.norms import NORM_TEXT
from gauntlet.core.parquet import read_table
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.robustness.diagnostics.checks import CHECKS, worst_verdict


@dataclass(frozen=True)
class Finding:
    """The evidence of a check that warns or fails for one model, in one norm or none."""

    variant: str
    seed: int
    norm: str
    verdict: str
    value: str
    threshold: str
    evidence: str
    samples: str


@dataclass(frozen=True)
class CheckResult:
    """One check: its question, the worst verdict of each variant over norms and seeds, and its findings."""

    name: str
    question: str
    verdicts: tuple[str, ...]
    findings: tuple[Finding, ...]


def read_check_results(inputs: FigureInputs, variants: Sequence[str]) -> Iterator[CheckResult]:
    """Yield the results of all checks in the diagnostics, failures first among the findings of a check."""
    diagnostics = read_table(inputs.path("diagnostics")).to_pylist() if inputs.has("diagnostics") else []
    for name, check in CHECKS.items():
        rows = [row for row in diagnostics if row["check"] == name]
        if not rows:
            continue
        verdicts = tuple(
            worst_verdict(row["verdict"] for row in rows if row["variant"] == variant) for variant in variants
        )
        findings = [row for row in rows if row["verdict"] in ("fail", "warn")]
        findings.sort(key=lambda row: (row["verdict"], variants.index(row["variant"]), row["seed"]))
        yield CheckResult(name, check.question, verdicts, tuple(map(_finding, findings)))


def _finding(row: Mapping[str, Any]) -> Finding:
    return Finding(
        variant=row["variant"],
        seed=row["seed"],
        norm=NORM_TEXT.get(row["norm"], row["norm"]) if row["norm"] else "",
        verdict=row["verdict"],
        value=f"{row['value']:.3g}",
        threshold=f"{row['threshold']:.3g}",
        evidence=row["evidence"],
        samples=", ".join(map(str, row["samples"] or ())),
    )
