"""A LaTeX macro for every number of the table, so that a text quotes what was measured; each with its query."""

from __future__ import annotations

from gauntlet.config.base import spelt
from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import WORST_CASE, ExperimentDesign
from gauntlet.reporting.aggregation.definitions import (
    CORRECT,
    FOOLED_AT,
    accuracy_query,
    certified_at,
    quoted,
    robust_at,
    worst_case_rows,
)
from gauntlet.reporting.aggregation.outcomes import SEEDS
from gauntlet.reporting.tables import wording as text
from gauntlet.reporting.tables.content import Column, Content

_EVALUATIONS, _CERTIFICATES = "'evaluations.parquet'", "'certificates.parquet'"
_OVER_REPETITIONS = (
    "SELECT 100 * avg(share) FROM (SELECT avg(({robust})::INT) AS share FROM {rows} WHERE {where}"
    " GROUP BY seed HAVING count(DISTINCT attack) = {attacks})"
)


def macros(content: Content, *, mark: str = "") -> str:
    r"""Write `\newcommand`s for all numbers that are there, in percent, and for half their intervals over seeds.

    A macro is called after experiment, variant, attack (with the norm, for a worst case or a certificate) and budget;
    above it stands the query that gives it, to be run in the experiment's folder of results.

    Raises InputError that names two numbers whose macros would have the same name.
    """
    lines, owner = [f"% {mark}"] if mark else [], dict[str, str]()
    for variant in content.design.variants:
        for column in content.columns:
            cell = content.cells[variant, column]
            if cell.accuracy is None:
                continue
            name = macro_name(content.design.experiment, variant, column)
            told = f"{variant}, {column.name or column.measure} {text.budget(column)}".strip()
            lines += [f"% {query(content.design, variant, column)}"]
            values = {name: text.mean(cell), f"{name}Spread": text.spread(cell)}
            for key, value in values.items():
                if key in owner:
                    raise InputError(
                        f"two numbers are called \\{key}: of {owner[key]} and of {told}",
                        remedy="rename a variant or an attack, so that the names differ in more than - and _",
                    )
                owner[key] = told
                lines += [rf"\newcommand{{\{key}}}{{{value}}}"] if value else []
    return "\n".join(lines) + "\n"


def macro_name(experiment: str, variant: str, column: Column) -> str:
    """Name the macro of a number: letters only, as LaTeX wants it, digits spelt out."""
    name, norm = column.name.removeprefix(SEEDS), column.norm or ""
    if column.name.startswith(WORST_CASE):
        name = f"worst_{norm}"
    elif column.measure == "certified":
        name = f"certified_{name}"
    parts = [experiment, variant, name or column.measure]
    if column.norm is not None:
        parts.append(("at " if column.measure == "robust" else "radius ") + f"{column.epsilon:.6g}")
    return "".join(map(spelt, parts))


def query(design: ExperimentDesign, variant: str, column: Column) -> str:
    """Write the query that gives a number of the table in percent: SQL of DuckDB, in one line."""
    where, rows, condition = f"variant = {quoted(variant)}", _EVALUATIONS, CORRECT
    if column.measure == "certified":
        where += f" AND certificate = {quoted(column.name)}"
        rows, condition = _CERTIFICATES, certified_at(repr(column.epsilon))
    elif column.measure == "robust":
        condition = robust_at(repr(column.epsilon), FOOLED_AT)
        first = column.name.removeprefix(SEEDS)
        if first != column.name:
            repetitions = [attack.name for attack in design.attacks if attack.repeats == first]
            where += f" AND attack IN ({', '.join(map(quoted, repetitions))})"
            return _one_line(
                _OVER_REPETITIONS.format(robust=condition, rows=rows, where=where, attacks=len(repetitions))
            )
        worst = worst_case_rows(quoted(column.norm), design.uncounted)
        where += f" AND {worst if column.is_worst_case else f'attack = {quoted(column.name)}'}"
    return _one_line(accuracy_query(condition, rows=rows, where=where))


def _one_line(sql: str) -> str:
    return " ".join(sql.split())
