"""Plans of synthetic experiments with a grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gauntlet.core.parquet import write_table
from gauntlet.pipeline.stage import Cell
from gauntlet.reporting.aggregation import (
    AttackDesign,
    ExperimentDesign,
    FactorDesign,
    GridDesign,
    LevelDesign,
    combine,
    summarize,
)
from tests.support import synthetic
from tests.support.cells import make_cell

NAMES = ("first", "second", "third", "fourth")


def grid_plan(
    levels: Sequence[int],
    *,
    attacks: Sequence[AttackDesign] = synthetic.ATTACKS,
    seeds: Sequence[int] = (0, 1, 2),
    alone: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> ExperimentDesign:
    """Plan a grid of factors with so many levels each: variants a0_b0, a0_b1, …; `left_out` are no part of it.

    `alone` are variants of no grid.
    """
    sizes = dict(zip(NAMES, levels, strict=False))
    factors = grid_of("", {}, **sizes).factors
    variants = {
        name: codes
        for codes in itertools.product(*map(range, levels))
        if (name := "_".join(factor.levels[code].name for factor, code in zip(factors, codes, strict=True)))
        not in left_out
    }
    grid = grid_of("_".join(f"{{{name}}}" for name in sizes), variants, **sizes)
    return replace(synthetic.plan([*variants, *alone], seeds, attacks), grids=(grid,))


def grid_of(name: str, variants: Mapping[str, tuple[int, ...]], **levels: int) -> GridDesign:
    """Return a grid of factors with so many levels each, named a0, a1, …, b0, …; their printed names are capitals."""
    factors = (
        FactorDesign(
            factor, tuple(LevelDesign(f"{letter}{n}", f"{letter.upper()}{n}", f'"{letter}{n}"') for n in range(count))
        )
        for (factor, count), letter in zip(levels.items(), "abcd", strict=False)
    )
    return GridDesign(name, tuple(factors), variants)


def write_results(folder: Path, of: ExperimentDesign, *, samples: int = 60, absent: Sequence[Cell] = ()) -> Path:
    """Write evaluations, summary and certificates of a plan, and nothing else; return the file of evaluations."""
    files = synthetic.write_evaluations(folder / "cells", of, samples=samples)
    for cell in absent:
        files[cell].unlink()
    evaluations = folder / "evaluations.parquet"
    combine(files, evaluations, design=of, allow_missing=True)
    write_table(folder / "summary.parquet", summarize(evaluations), of.metadata())
    certified = {}
    for variant, seed in itertools.product(of.variants, of.seeds):
        cell = make_cell("certify", of.experiment, variant, seed, "smooth")
        certified[cell] = folder / "cells" / variant / f"smooth-{seed}.parquet"
        write_table(certified[cell], synthetic.smoothed(cell, samples=samples), {})
    combine(certified, folder / "certificates.parquet", design=of)
    return evaluations
