"""Effects of the factors of an experiment's grids on its headline accuracies."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.reporting.aggregation.comparisons import SIGNIFICANT
from gauntlet.reporting.aggregation.definitions import is_worst_case
from gauntlet.reporting.aggregation.design import ExperimentDesign
from gauntlet.reporting.aggregation.grids import FactorDesign, GridDesign
from gauntlet.reporting.aggregation.headline_outcomes import HeadlineOutcome, read_headline_outcomes
from gauntlet.reporting.aggregation.queries import Evaluations, open_evaluations
from gauntlet.reporting.formatting import accuracy_flags_of
from gauntlet.reporting.stats import Effect, factor_effects, factor_interactions, level_means

MEAN, DIFFERENCE, INTERACTION = "mean", "difference", "interaction"

EFFECTS_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("grid", pa.string()),
        ("measure", pa.string()),
        ("name", pa.string()),
        ("norm", pa.string()),
        ("epsilon", pa.float64()),
        ("kind", pa.string()),
        ("factor", pa.string()),
        ("level", pa.string()),
        ("reference", pa.string()),
        ("other_factor", pa.string()),
        ("other_level", pa.string()),
        ("other_reference", pa.string()),
        ("estimate", pa.float64()),
        ("t_low", pa.float64()),
        ("t_high", pa.float64()),
        ("t_p", pa.float64()),
        ("t_p_holm", pa.float64()),
        ("t_significant", pa.bool_()),
        ("seeds", pa.int64()),
        ("matched", pa.int64()),
        ("left_out", pa.int64()),
        ("unmatched", pa.int64()),
        ("missing", pa.int64()),
        ("incomplete", pa.string()),
        ("errors", pa.int64()),
        ("flags", pa.string()),
    ]
)
"""One row per grid, headline accuracy, and mean, difference or interaction of factors.

`measure`, `name`, `norm` and `epsilon` are as in COMPARISONS_SCHEMA, levels as in VARIANTS_SCHEMA. `kind`
"difference": accuracy at `level` of `factor` less that at `reference`, for all pairs of levels. "interaction": this
difference at `other_level` of `other_factor` less the same at `other_reference`. "mean": accuracy at `level`, or at a
pair of levels of two factors, over the settings that all levels have.

`estimate` is the mean over seeds of the mean over `matched` settings of the other factors (`stats.factor_effects`),
`t_low` and `t_high` bound it at 95 %. `t_p` is the p-value of the t-test paired by seed and `t_p_holm` is adjusted over
all rows of the same grid, accuracy, kind and factors; `t_significant` means that it is below 0.05. All are null with
fewer than two seeds and where the seeds do not differ; `estimate` where no setting is complete.

`left_out` settings have a missing cell, or a variant with fewer seeds than others (checkpoints), and `unmatched` ones
no variant at some of the levels. `missing` counts the planned (variant, seed) without an accuracy in settings of all
levels, and `incomplete` names these variants, joined by commas.
`errors` and `flags` are those of the variants compared (SUMMARY_SCHEMA).
"""


def measure_effects(evaluations: Path, summary: pa.Table, certificates: Path | None, certified: pa.Table) -> pa.Table:
    """Estimate the effects of all factors of a combined evaluations file: rows of EFFECTS_SCHEMA; none without grids.

    `summary` and `certified` are the accuracies computed from the files `evaluations` and `certificates`.

    Raises InputError when a file is missing, damaged or of another kind.
    """
    with open_evaluations(evaluations) as opened:
        rows = list(_rows(opened, summary, certificates, certified)) if opened.design.grids else []
    return pa.Table.from_pylist(rows, schema=EFFECTS_SCHEMA)


def _rows(
    evaluations: Evaluations, summary: pa.Table, certificates: Path | None, certified: pa.Table
) -> Iterator[dict[str, Any]]:
    design, summarized = evaluations.design, summary.to_pylist()
    outcomes = list(read_headline_outcomes(evaluations, certificates, certified))
    position = {variant: number for number, variant in enumerate(design.variants)}
    planned_seeds = {variant: design.seeds_of(variant) for variant in design.variants}
    for grid in design.grids:
        in_grid = [variant for variant in grid.variants if variant in position]
        for outcome in outcomes:
            planned = _planned(outcome, design)
            variants = [variant for variant in in_grid if variant in planned]
            if len(variants) < min(2, len(in_grid)):  # nothing to compare
                continue
            codes = np.array([grid.variants[variant] for variant in variants], np.int64).reshape(-1, len(grid.factors))
            values = outcome.values[[position[variant] for variant in variants]]
            doubts = _doubts(outcome, summarized)
            ids = {
                "experiment": design.experiment,
                "grid": grid.name,
                "measure": outcome.measure,
                "name": outcome.name,
                "norm": outcome.norm,
                "epsilon": outcome.epsilon,
            }
            for kind, factors, effect in _effects(codes, values, grid):
                compared = [variants[cell] for cell in effect.cells]
                # A variant of adopted checkpoints may have fewer seeds than others.
                missing = [
                    variants[cell]
                    for cell, seed in effect.missing
                    if design.seeds[seed] in planned_seeds[variants[cell]]
                ]
                yield ids | _row(kind, factors, effect) | _missing(missing) | _in_doubt(map(doubts.get, compared))


def _planned(outcome: HeadlineOutcome, design: ExperimentDesign) -> set[str]:
    """Return the variants that have an accuracy unless a cell is missing: those of its certificate or attacks."""
    if outcome.measure == "certified":
        return {name for one in design.certificates if one.name == outcome.name for name in one.variants}
    counted = design.counted_in(outcome.norm) if outcome.norm else design.attacks
    return {name for name in design.variants if any(name not in attack.without for attack in counted)}


def _effects(
    codes: NDArray[np.int64], values: NDArray[np.float64], grid: GridDesign
) -> Iterator[tuple[str, tuple[FactorDesign, ...], Effect]]:
    """Yield the means, differences and interactions of every factor and pair of factors."""
    for number, factor in enumerate(grid.factors):
        for effect in level_means(codes, values, (number,)):
            yield MEAN, (factor,), effect
        for effect in factor_effects(codes, values, number):
            yield DIFFERENCE, (factor,), effect
    for first, second in itertools.combinations(range(len(grid.factors)), 2):
        pair = grid.factors[first], grid.factors[second]
        for effect in level_means(codes, values, (first, second)):
            yield MEAN, pair, effect
        for effect in factor_interactions(codes, values, first, second):
            yield INTERACTION, pair, effect


def _row(kind: str, factors: tuple[FactorDesign, ...], effect: Effect) -> dict[str, Any]:
    names = {}
    for prefix, factor, position in zip(("", "other_"), factors, (0, 1), strict=False):
        names[f"{prefix}factor"] = factor.name
        names[f"{prefix}level"] = factor.levels[effect.levels[position]].name
        if effect.references:
            names[f"{prefix}reference"] = factor.levels[effect.references[position]].name
    numbers = {
        "estimate": effect.estimate,
        "t_low": effect.low,
        "t_high": effect.high,
        "t_p": effect.p,
        "t_p_holm": effect.p_holm,
    }
    return {
        "kind": kind,
        **names,
        **{name: None if np.isnan(value) else float(value) for name, value in numbers.items()},
        "t_significant": bool(effect.p_holm < SIGNIFICANT) if effect.references else None,
        "seeds": effect.seeds,
        "matched": effect.matched,
        "left_out": effect.left_out,
        "unmatched": effect.unmatched,
    }


def _missing(variants: Sequence[str]) -> dict[str, Any]:
    """Return the columns on missing cells, from the variant of each."""
    return {"missing": len(variants), "incomplete": ", ".join(dict.fromkeys(variants))}


Doubt = tuple[int, str | None]
"""Samples with errors, and failed checks, of one variant's accuracy."""


def _doubts(outcome: HeadlineOutcome, summarized: Sequence[dict[str, Any]]) -> dict[str, Doubt]:
    """Map each variant to the doubts about an accuracy; without an attack only the checks of accuracy itself count."""
    if is_worst_case(outcome.name):
        rows = [row for row in summarized if (row["attack"], row["epsilon"]) == (outcome.name, outcome.epsilon)]
        return {row["variant"]: (row["errors"], row["flags"]) for row in rows}
    return {variant: (0, flags) for variant, flags in accuracy_flags_of(summarized).items()}


def _in_doubt(doubts: Iterable[Doubt | None]) -> dict[str, Any]:
    known = [doubt for doubt in doubts if doubt is not None]
    checks = [flags for _, flags in known]
    failed = dict.fromkeys(check for flags in checks for check in (flags or "").split(", ") if check)
    undiagnosed = not failed and any(flags is None for flags in checks)
    return {"errors": sum(errors for errors, _ in known), "flags": None if undiagnosed else ", ".join(failed)}
