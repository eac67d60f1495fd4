"""LaTeX macros of all numbers of the table, each with the query that gives it."""

from __future__ import annotations

from gauntlet.config.base import letters_only
from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import ExperimentDesign
from gauntlet.reporting.aggregation.definitions import (
    CORRECT,
    FOOLED_AT,
    accuracy_query,
    certified_at,
    quoted,
    robust_at,
    worst_case_rows,
)
from gauntlet.reporting.aggregation.outcomes import CLEAN, SEEDS
from gauntlet.reporting.tables import wording
from gauntlet.reporting.tables.cells import Column, TableContent

_EVALUATIONS, _CERTIFICATES = "'evaluations.parquet'", "'certificates.parquet'"
_OVER_REPETITIONS = (
    "SELECT 100 * avg(share) FROM (SELECT avg(({robust})::INT) AS share FROM {rows} WHERE {where}"
    " GROUP BY seed HAVING count(DISTINCT attack) = {attacks})"
)


def macros(content: TableContent, *, mark: str = "") -> str:
    r"""Return `\newcommand`s for all numbers in percent, and for half the width of their intervals over seeds.

    A macro is named after experiment, variant, attack (norm for a worst case, certificate for a radius) and budget.
    The comment above it is its DuckDB query, for the folder of the experiment's results.

    Raises InputError that names two numbers whose macros would have the same name.
    """
    lines, owners = [f"% {mark}"] if mark else [], dict[str, str]()
    for variant in content.design.variants:
        for column in content.columns:
            cell = content.cells[variant, column]
            if cell.accuracy is None:
                continue
            name = macro_name(content.design.experiment, variant, column)
            number = f"{variant}, {column.name or column.measure} {wording.column_budget_text(column)}".strip()
            lines += [f"% {macro_query(content.design, variant, column)}"]
            texts = {name: wording.accuracy_text(cell), f"{name}Spread": wording.spread_text(cell)}
            for macro, text in texts.items():
                if macro in owners:
                    raise InputError(
                        f"two numbers are called \\{macro}: of {owners[macro]} and of {number}",
                        remedy="rename a variant or an attack, so that the names differ in more than - and _",
                    )
                owners[macro] = number
                lines += [rf"\newcommand{{\{macro}}}{{{text}}}"] if text else []
    return "\n".join(lines) + "\n"


def macro_name(experiment: str, variant: str, column: Column) -> str:
    """Return the name of a number's macro: letters only, as LaTeX requires, with digits spelled out."""
    name, norm = column.name.removeprefix(SEEDS), column.norm or ""
    if column.is_worst_case:
        name = f"worst_{norm}"
    elif column.measure == "certified":
        name = f"certified_{name}"
    parts = [experiment, variant, name or column.measure]
    if column.norm is not None:
        parts.append(("at " if column.measure == "robust" else "radius ") + f"{column.epsilon:.6g}")
    return "".join(map(letters_only, parts))


def macro_query(design: ExperimentDesign, variant: str, column: Column) -> str:
    """Return the DuckDB query, in one line, that gives a number of the table in percent."""
    where, rows, condition = f"variant = {quoted(variant)}", _EVALUATIONS, CORRECT
    if column.measure == CLEAN and len(design.clean_attacks) < len(design.attacks):
        where += f" AND attack IN ({', '.join(map(quoted, design.clean_attacks))})"
    if column.measure == "certified":
        where += f" AND certificate = {quoted(column.name)}"
        rows, condition = _CERTIFICATES, certified_at(repr(column.epsilon))
    elif column.measure == "robust":
        condition = robust_at(repr(column.epsilon), FOOLED_AT)
        first = column.name.removeprefix(SEEDS)
        if first != column.name:
            attacks = [attack.name for attack in design.attacks if attack.repeats == first]
            where += f" AND attack IN ({', '.join(map(quoted, attacks))})"
            sql = _OVER_REPETITIONS.format(robust=condition, rows=rows, where=where, attacks=len(attacks))
            return _one_line(sql)
        worst_case = worst_case_rows(quoted(column.norm), design.uncounted)
        where += f" AND {worst_case if column.is_worst_case else f'attack = {quoted(column.name)}'}"
    return _one_line(accuracy_query(condition, rows=rows, where=where))


def _one_line(sql: str) -> str:
    return " ".join(sql.split())
