"""DuckDB queries that return the numbers of the page: shown next to each number, and run by the tests.

The page replaces the placeholders `:variant`, `:attack`, `:norm`, `:seed`, `:certificate`, `:check` and `:budget` by
literals, `:rows`, `:radii` and `:checks` by the files of evaluations, certificates and diagnostics.
"""

from __future__ import annotations

from collections.abc import Iterable

from gauntlet.reporting.aggregation.definitions import (
    CERTIFIED,
    CORRECT,
    DISTANCE,
    ERROR,
    FOOLED,
    FOOLED_AT,
    accuracy_query,
    certified_at,
    robust_at,
    worst_case_rows,
)

_CELL = "FROM :rows WHERE variant = :variant AND seed = :seed AND attack = :attack"
_CERTIFICATE = "FROM :radii\nWHERE variant = :variant AND certificate = :certificate"
_ATTACK = "FROM :rows WHERE attack = :attack"

_OTHERS = {
    "cell.samples": f"SELECT count(*) {_CELL}",
    "cell.clean": f"SELECT 100 * avg(({CORRECT})::INT) {_CELL}",
    "cell.fooled": f"SELECT count_if({FOOLED}) {_CELL}",
    "cell.robust": f"SELECT count_if(status = 'robust') {_CELL}",
    "cell.errors": f"SELECT count_if({ERROR}) {_CELL}",
    "cell.distance": f"SELECT median({DISTANCE}) {_CELL}",
    "cell.forwards": f"SELECT sum(forwards) / count(*) {_CELL}",
    "cell.backwards": f"SELECT sum(backwards) / count(*) {_CELL}",
    "certified.share": f"SELECT 100 * avg(({CERTIFIED})::INT) {_CERTIFICATE}",
    "certified.at": f"SELECT 100 * avg(({certified_at(':budget')})::INT) {_CERTIFICATE}",
    "certified.median": f"SELECT median(radius) FILTER ({CERTIFIED}) {_CERTIFICATE}",
    "check.verdict": "SELECT seed, norm, verdict, value, threshold, evidence FROM :checks\n"
    'WHERE variant = :variant AND "check" = :check',
    "cost.models": f"SELECT count(DISTINCT (variant, seed)) {_ATTACK}",
    "cost.success": f"SELECT 100 * count_if({FOOLED}) / count_if({CORRECT})\n{_ATTACK}",
    "cost.forwards": f"SELECT sum(forwards) / count_if({FOOLED}) {_ATTACK}",
    "cost.backwards": f"SELECT sum(backwards) / count_if({FOOLED}) {_ATTACK}",
}


def page_queries(uncounted: Iterable[str]) -> dict[str, str]:
    """Return the query of every number by "TABLE.COLUMN"; `uncounted` attacks have no part in a worst case."""
    selections = {"worst": worst_case_rows(":norm", uncounted), "single": "attack = :attack"}
    return {
        f"{table}.{column}": text for table, rows in selections.items() for column, text in _accuracies(rows).items()
    } | _OTHERS


def _accuracies(selection: str) -> dict[str, str]:
    """Return the queries of the columns of a table of accuracies."""
    where = f"variant = :variant AND {selection}"
    return {
        "robust": accuracy_query(robust_at(":budget", FOOLED_AT), rows=":rows", where=where),
        "clean": accuracy_query(CORRECT, rows=":rows", where=where),
        "distance": "SELECT median(distance) FROM (\n"
        f"  SELECT min({DISTANCE}) AS distance\n"
        f"  FROM :rows WHERE {where} GROUP BY seed, index)",
    }
