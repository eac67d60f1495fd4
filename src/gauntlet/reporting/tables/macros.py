"""A LaTeX macro for every number of the table, so that a text quotes what was measured; each with its query."""

from __future__ import annotations

from gauntlet.config.base import spelt
from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import SEEDS, WORST_CASE, Plan
from gauntlet.reporting.tables import wording as text
from gauntlet.reporting.tables.content import Column, Content

_ROBUST = "status <> 'error' AND (epsilon IS NULL OR epsilon > {epsilon}::FLOAT)"
_MEAN = "SELECT 100 * avg(share) FROM ({shares})"
_CERTIFIED = (
    "SELECT avg((status = 'certified' AND radius >= {epsilon}::DOUBLE)::INT) AS share FROM 'certificates.parquet'"
    " WHERE {where} GROUP BY seed"
)
_OF_SAMPLES = (
    "SELECT avg(outcome::INT) AS share FROM (SELECT seed, bool_and({outcome}) AS outcome FROM 'evaluations.parquet'"
    " WHERE {where} GROUP BY seed, index) GROUP BY seed"
)
_OF_ROWS = "SELECT avg(({outcome})::INT) AS share FROM 'evaluations.parquet' WHERE {where} GROUP BY seed{having}"


def macros(content: Content, *, mark: str = "") -> str:
    r"""Write `\newcommand`s for all numbers that are there, in percent, and for half their intervals over seeds.

    A macro is called after experiment, variant, attack (with the norm, for a worst case or a certificate) and budget;
    above it stands the query that gives it, to be run in the experiment's folder of results.

    Raises InputError that names two numbers whose macros would have the same name.
    """
    lines, owner = [f"% {mark}"] if mark else [], dict[str, str]()
    for variant in content.plan.variants:
        for column in content.columns:
            cell = content.cells[variant, column]
            if cell.accuracy is None:
                continue
            name = macro_name(content.plan.experiment, variant, column)
            told = f"{variant}, {column.name or column.measure} {text.budget(column)}".strip()
            lines += [f"% {query(content.plan, variant, column)}"]
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


def query(plan: Plan, variant: str, column: Column) -> str:
    """Write the query that gives a number of the table in percent: SQL of DuckDB, in one line."""
    attacks, epsilon = _attacks(plan, variant, column), repr(column.epsilon)
    where, robust = f"variant = {_quoted(variant)}", _ROBUST.format(epsilon=epsilon)
    among = f"{where} AND attack IN ({', '.join(map(_quoted, attacks))})"
    if column.measure == "certified":
        shares = _CERTIFIED.format(epsilon=epsilon, where=f"{where} AND certificate = {_quoted(column.name)}")
    elif column.measure == "clean":
        shares = _OF_SAMPLES.format(outcome="clean_prediction = label", where=where)
    elif column.is_worst_case:
        shares = _OF_SAMPLES.format(outcome=robust, where=among)
    else:
        whole = f" HAVING count(DISTINCT attack) = {len(attacks)}" if len(attacks) > 1 else ""
        shares = _OF_ROWS.format(outcome=robust, where=among, having=whole)
    return _MEAN.format(shares=shares)


def _attacks(plan: Plan, variant: str, column: Column) -> list[str]:
    """List the attacks whose rows a number rests on."""
    if column.is_worst_case:
        here = plan.attacks_in(column.norm or "")
        return [attack.name for attack in here if attack.counts and variant not in attack.without]
    first = column.name.removeprefix(SEEDS)
    return [one.name for one in plan.attacks if one.repeats == first] if first != column.name else [column.name]


def _quoted(name: str) -> str:
    return "'" + " ".join(name.split()).replace("'", "''") + "'"
