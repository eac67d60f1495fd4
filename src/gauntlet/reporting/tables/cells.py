"""Contents of the tables: a column per attack or certificate and budget, a row per variant, and the best numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gauntlet.reporting.aggregation import (
    WORST_CASE,
    Evaluations,
    ExperimentDesign,
    headline_budgets,
    norm_grids,
    open_evaluations,
)
from gauntlet.reporting.aggregation.budget_grids import attack_grid
from gauntlet.reporting.aggregation.definitions import is_worst_case
from gauntlet.reporting.aggregation.headline import headline_radii
from gauntlet.reporting.aggregation.outcomes import CLEAN, SEEDS
from gauntlet.reporting.best import Candidate, best_variant
from gauntlet.reporting.footnotes import clean_note, exclusion_note
from gauntlet.reporting.formatting import accuracy_flags_of
from gauntlet.reporting.tables.numbers import clean_numbers, is_repeated, repeated_numbers

INTERVALS = ("wilson_low", "wilson_high", "t_low", "t_high", "training_std")
SHARED = ("accuracy", *INTERVALS, "seeds", "samples", "missing", "errors", "flags")


@dataclass(frozen=True)
class TableInputs:
    """A combined evaluations file, and the tables computed from it and from its certificates."""

    evaluations: Path
    summary: pa.Table
    comparisons: pa.Table
    certified: pa.Table


@dataclass(frozen=True)
class Column:
    """One column: `measure`, `name`, `norm` and `epsilon` as in COMPARISONS_SCHEMA, `title` as printed.

    `note` is a footnote on the measure, such as that it is the accuracy of a smoothed classifier.
    """

    measure: str
    name: str
    norm: str | None
    epsilon: float
    title: str
    note: str = ""

    @property
    def is_worst_case(self) -> bool:
        """True for the worst case over the attacks of a norm."""
        return is_worst_case(self.name)


@dataclass(frozen=True)
class TableCell:
    """One accuracy, a share in [0, 1], with its intervals; `accuracy` is None where nothing was measured.

    `applies` is false where nothing was planned. `best` marks the bold number of a column (`reporting.best`).
    """

    accuracy: float | None = None
    t_low: float | None = None
    t_high: float | None = None
    wilson_low: float | None = None
    wilson_high: float | None = None
    seeds: int = 0
    attack_seeds: int = 1
    training_std: float | None = None
    attack_std: float | None = None
    samples: int = 0
    errors: int = 0
    missing: int = 0
    flags: str | None = ""
    applies: bool = True
    best: bool = False


@dataclass(frozen=True)
class TableContent:
    """A whole table: `cells` by (variant, column); `left_out` names the attacks without a column."""

    design: ExperimentDesign
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], TableCell]
    left_out: tuple[str, ...]

    def title(self, variant: str) -> str:
        """Return the printed name of a variant."""
        return self.design.titles.get(variant, variant)


def read_table_content(inputs: TableInputs) -> TableContent:
    """Read the numbers of a table. Raises InputError when the evaluations are missing or damaged."""
    with open_evaluations(inputs.evaluations) as evaluations:
        columns = tuple(_columns(evaluations, inputs))
        cells = {
            (variant, column): cell
            for column in columns
            for variant, cell in _mark_best(column, _column(evaluations, inputs, column), inputs.comparisons).items()
        }
        design = evaluations.design
    names = {column.name for column in columns}
    left_out = tuple(
        attack.title or attack.name
        for attack in design.attacks
        if not names & {attack.name, f"{SEEDS}{attack.repeats}"}
    )
    return TableContent(design, columns, cells, left_out)


def _columns(evaluations: Evaluations, inputs: TableInputs) -> Iterator[Column]:
    design, grids = evaluations.design, norm_grids(evaluations)
    budgets = headline_budgets(design, grids)
    if design.attacks:
        yield Column(CLEAN, "", None, 0.0, "clean", clean_note(design.clean_samples))
    for norm in design.norms:
        for attack in design.attacks_in(norm):
            if attack.repeats not in (None, attack.name):
                continue
            name = f"{SEEDS}{attack.repeats}" if attack.repeats else attack.name
            title = attack.title or attack.name
            note = "" if attack.counts else exclusion_note(title, attack.exclusion)
            for epsilon in budgets[norm]:
                if epsilon in attack_grid(attack, grids):
                    yield Column("robust", name, norm, epsilon, title, note)
        for epsilon in budgets[norm] if design.counted_in(norm) else ():
            if epsilon in grids[norm]:
                yield Column("robust", f"{WORST_CASE}{norm}", norm, epsilon, "worst case")
    rows = inputs.certified.to_pylist()
    for certificate in design.certificates:
        radii = sorted({row["radius"] for row in rows if row["certificate"] == certificate.name})
        title = certificate.title or certificate.name
        note = (
            "" if certificate.certifies == "model" else f"{title}: accuracy of the {certificate.certifies} classifier"
        )
        for radius in headline_radii(certificate.norm, budgets, radii):
            if radius in radii:
                yield Column("certified", certificate.name, certificate.norm, radius, title, note)


def _column(evaluations: Evaluations, inputs: TableInputs, column: Column) -> dict[str, TableCell]:
    """Return the cells of a column by variant."""
    variants = evaluations.design.variants
    flags = accuracy_flags_of(_rows(inputs.summary))
    if column.measure == CLEAN:
        clean = evaluations.design.clean_attacks
        planned = {variant for variant, _, attack in evaluations.design.cells() if attack in clean}
        return {
            variant: _cell(clean_numbers(evaluations, variant) | {"flags": flags.get(variant, "")})
            if variant in planned
            else TableCell(applies=False)
            for variant in variants
        }
    if is_repeated(column.name):
        return {variant: _repeated(evaluations, inputs, column, variant) for variant in variants}
    if column.measure == "certified":
        certified = _rows(inputs.certified, certificate=column.name, radius=column.epsilon)
        rows = [row | {"flags": flags.get(row["variant"], "")} for row in certified]
        accuracy = "certified_accuracy"
    else:
        rows, accuracy = _rows(inputs.summary, attack=column.name, epsilon=column.epsilon), "robust_accuracy"
    cells = {row["variant"]: _cell({**row, "accuracy": row[accuracy]}) for row in rows}
    return {variant: cells.get(variant, TableCell(applies=False)) for variant in variants}


def _repeated(evaluations: Evaluations, inputs: TableInputs, column: Column, variant: str) -> TableCell:
    first = column.name.removeprefix(SEEDS)
    if any(attack.name == first and variant in attack.without for attack in evaluations.design.attacks):
        return TableCell(applies=False)
    flags = next((row["flags"] for row in _rows(inputs.summary, variant=variant, attack=first)), None)
    return _cell({**repeated_numbers(evaluations, variant, first, column.epsilon), "flags": flags})


def _cell(row: Mapping[str, Any]) -> TableCell:
    defaults = {"errors": 0, "flags": ""}
    shared = {name: row.get(name, defaults.get(name)) for name in SHARED}
    over_attack_seeds = {name: row[name] for name in ("attack_seeds", "attack_std") if name in row}
    return TableCell(**shared, **over_attack_seeds)


def _mark_best(column: Column, cells: dict[str, TableCell], comparisons: pa.Table) -> dict[str, TableCell]:
    """Mark the best number of a column, if there is one."""
    compared = _rows(comparisons, measure=column.measure, name=column.name, epsilon=column.epsilon)
    candidates = {variant: Candidate(cell.accuracy, cell.missing, cell.flags) for variant, cell in cells.items()}
    best = best_variant(candidates, compared, under_attack=column.measure == "robust")
    return {variant: replace(cell, best=variant == best) for variant, cell in cells.items()}


def _rows(table: pa.Table, **values: object) -> list[dict[str, Any]]:
    """Return the rows of a table with these values in their columns."""
    for name, value in values.items():
        table = table.filter(pc.equal(table[name], value))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
