"""What the tables say, as plain values: a column per attack and budget, a row per variant, and which number is best."""

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
from gauntlet.reporting.aggregation.headline import headline_radii
from gauntlet.reporting.aggregation.outcomes import CLEAN, SEEDS
from gauntlet.reporting.tables.numbers import clean_numbers, is_repeated, repeated_numbers

SHARED = ("accuracy", "wilson_low", "wilson_high", "t_low", "t_high", "seeds", "samples", "missing", "errors", "flags")


@dataclass(frozen=True)
class TableInputs:
    """What tables are made from: a combined evaluations file, and tables that follow from it and its certificates."""

    evaluations: Path
    summary: pa.Table
    comparisons: pa.Table
    certified: pa.Table


@dataclass(frozen=True)
class Column:
    """What one column states: `measure`, `name`, `norm` and `epsilon` as in the comparisons, `title` for print.

    `note` is what a reader must know of the measure itself, such as that it is of another classifier.
    """

    measure: str
    name: str
    norm: str | None
    epsilon: float
    title: str
    note: str = ""

    @property
    def is_worst_case(self) -> bool:
        """Tell whether it is the worst case over the attacks of a norm."""
        return self.name.startswith(WORST_CASE)


@dataclass(frozen=True)
class Cell:
    """One number, a share in [0, 1], with its intervals; `accuracy` is None where nothing was measured.

    `applies` is false where nothing was to be measured. `best` says that it is higher than that of every other variant,
    each difference significant, and that diagnostics do not doubt it.
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
class Content:
    """The table: `cells` by (variant, column); `left_out` are attacks without a column."""

    design: ExperimentDesign
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    left_out: tuple[str, ...]

    def title(self, variant: str) -> str:
        """Give what a variant is called in print."""
        return self.design.titles.get(variant, variant)


def read_content(inputs: TableInputs) -> Content:
    """Read the numbers of a table. Raises InputError when the evaluations are missing or damaged."""
    with open_evaluations(inputs.evaluations) as evaluations:
        columns = tuple(_columns(evaluations, inputs))
        cells = {
            (variant, column): cell
            for column in columns
            for variant, cell in _marked(column, _column(evaluations, inputs, column), inputs.comparisons).items()
        }
        design = evaluations.design
    shown = {column.name for column in columns}
    left_out = tuple(
        attack.title or attack.name
        for attack in design.attacks
        if not shown & {attack.name, f"{SEEDS}{attack.repeats}"}
    )
    return Content(design, columns, cells, left_out)


def _columns(evaluations: Evaluations, inputs: TableInputs) -> Iterator[Column]:
    design, grids = evaluations.design, norm_grids(evaluations)
    chosen = headline_budgets(design, grids)
    if design.attacks:
        yield Column(CLEAN, "", None, 0.0, "clean")
    for norm in design.norms:
        for attack in design.attacks_in(norm):
            name = f"{SEEDS}{attack.repeats}" if attack.repeats else attack.name
            if attack.repeats in (None, attack.name):
                note = (
                    "" if attack.counts else f"{attack.title or attack.name} makes images of its own, no perturbations"
                )
                for epsilon in chosen[norm]:
                    if epsilon in (attack.epsilons or grids[norm]):
                        yield Column("robust", name, norm, epsilon, attack.title or attack.name, note)
        for epsilon in chosen[norm]:
            if epsilon in grids[norm]:
                yield Column("robust", f"{WORST_CASE}{norm}", norm, epsilon, "worst case")
    rows = inputs.certified.to_pylist()
    for certificate in design.certificates:
        radii = sorted({row["radius"] for row in rows if row["certificate"] == certificate.name})
        title = certificate.title or certificate.name
        note = "" if certificate.certifies == "model" else f"{title} is of the {certificate.certifies} classifier"
        for radius in headline_radii(certificate.norm, chosen, radii):
            if radius in radii:
                yield Column("certified", certificate.name, certificate.norm, radius, title, note)


def _column(evaluations: Evaluations, inputs: TableInputs, column: Column) -> dict[str, Cell]:
    """Read one column: a cell per variant."""
    variants = evaluations.design.variants
    if column.measure == CLEAN:
        return {variant: _cell(clean_numbers(evaluations, variant)) for variant in variants}
    if is_repeated(column.name):
        return {variant: _repeated(evaluations, inputs, column, variant) for variant in variants}
    if column.measure == "certified":
        rows, value = _rows(inputs.certified, certificate=column.name, radius=column.epsilon), "certified_accuracy"
    else:
        rows, value = _rows(inputs.summary, attack=column.name, epsilon=column.epsilon), "robust_accuracy"
    found = {row["variant"]: _cell({**row, "accuracy": row[value]}) for row in rows}
    return {variant: found.get(variant, Cell(applies=False)) for variant in variants}


def _repeated(evaluations: Evaluations, inputs: TableInputs, column: Column, variant: str) -> Cell:
    first = column.name.removeprefix(SEEDS)
    if any(attack.name == first and variant in attack.without for attack in evaluations.design.attacks):
        return Cell(applies=False)
    flags = next((row["flags"] for row in _rows(inputs.summary, variant=variant, attack=first)), None)
    return _cell({**repeated_numbers(evaluations, variant, first, column.epsilon), "flags": flags})


def _cell(row: Mapping[str, Any]) -> Cell:
    defaults = {"errors": 0, "flags": ""}
    told = {name: row.get(name, defaults.get(name)) for name in SHARED}
    more = {name: row[name] for name in ("attack_seeds", "training_std", "attack_std") if name in row}
    return Cell(**told, **more)


def _marked(column: Column, cells: dict[str, Cell], comparisons: pa.Table) -> dict[str, Cell]:
    """Mark the best number of a column, if there is one: not in doubt, whole, and significantly above all others."""
    measured = {variant: cell.accuracy for variant, cell in cells.items() if cell.accuracy is not None}
    best = max(measured, key=lambda variant: measured[variant], default="")
    if len(measured) < 2 or any(cell.missing for variant, cell in cells.items() if variant in measured):
        return cells
    above: set[str] = set()
    for row in _rows(comparisons, measure=column.measure, name=column.name, epsilon=column.epsilon):
        pair = [row["variant"], row["other"]]
        if best in pair and row["significant"]:
            above.update(pair)
    # What may be too high, as what nobody looked into may be, is not said to be the best.
    doubtful = cells[best].flags or (column.measure == "robust" and cells[best].flags is None)
    beaten = set(measured) <= above and not doubtful
    return {variant: replace(cell, best=beaten and variant == best) for variant, cell in cells.items()}


def _rows(table: pa.Table, **wanted: object) -> list[dict[str, Any]]:
    """List the rows of a table that have the wanted values."""
    for name, value in wanted.items():
        table = table.filter(pc.equal(table[name], value))
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
