"""The queries that the page's numbers equal: DuckDB on the results file, shown beside a number and run by the tests.

`:variant`, `:attack`, `:norm`, `:seed`, `:certificate`, `:check` and `:budget` stand for literals that the page puts
in, `:rows` for the results file, `:radii` for that of certificates and `:checks` for that of diagnostics.
"""

from __future__ import annotations

from types import MappingProxyType

_CELL = "variant = :variant AND seed = :seed AND attack = :attack"
_SIZE = "CASE norm WHEN 'l0' THEN l0 WHEN 'l1' THEN l1 WHEN 'l2' THEN l2 WHEN 'linf' THEN linf END"
_BROKEN = "CASE WHEN status = 'error' THEN 0 WHEN epsilon IS NULL THEN 'inf' ELSE epsilon END::FLOAT"

# Budgets are compared as the float32 that rows hold; as text, they are rounded once.
_ROBUST = f"""SELECT 100 * avg(share) FROM (
  SELECT seed, avg((broken > :budget::FLOAT)::INT) AS share FROM (
    SELECT seed, index, min({_BROKEN}) AS broken
    FROM :rows WHERE variant = :variant AND {{which}} GROUP BY seed, index)
  GROUP BY seed)"""

_CLEAN = """SELECT 100 * avg(share) FROM (
  SELECT seed, avg(clean::INT) AS share FROM (
    SELECT seed, index, bool_and(clean_prediction = label) AS clean
    FROM :rows WHERE variant = :variant AND {which} GROUP BY seed, index)
  GROUP BY seed)"""

_DISTANCE = f"""SELECT median(distance) FROM (
  SELECT min({_SIZE}) FILTER (status = 'adversarial') AS distance
  FROM :rows WHERE variant = :variant AND {{which}} GROUP BY seed, index)"""

_WORST, _SINGLE = "norm = :norm", "attack = :attack"

_BROKEN_BY = "FROM :rows WHERE attack = :attack"

QUERIES = MappingProxyType(
    {
        "worst.robust": _ROBUST.format(which=_WORST),
        "worst.clean": _CLEAN.format(which=_WORST),
        "worst.distance": _DISTANCE.format(which=_WORST),
        "single.robust": _ROBUST.format(which=_SINGLE),
        "single.clean": _CLEAN.format(which=_SINGLE),
        "single.distance": _DISTANCE.format(which=_SINGLE),
        "cell.samples": f"SELECT count(*) FROM :rows WHERE {_CELL}",
        "cell.clean": f"SELECT 100 * avg((clean_prediction = label)::INT) FROM :rows WHERE {_CELL}",
        "cell.fooled": f"SELECT count_if(status = 'adversarial') FROM :rows WHERE {_CELL}",
        "cell.robust": f"SELECT count_if(status = 'robust') FROM :rows WHERE {_CELL}",
        "cell.errors": f"SELECT count_if(status = 'error') FROM :rows WHERE {_CELL}",
        "cell.distance": f"SELECT median({_SIZE}) FILTER (status = 'adversarial') FROM :rows WHERE {_CELL}",
        "cell.forwards": f"SELECT sum(forwards) / count(*) FROM :rows WHERE {_CELL}",
        "cell.backwards": f"SELECT sum(backwards) / count(*) FROM :rows WHERE {_CELL}",
        "certified.share": "SELECT 100 * avg((status = 'certified')::INT) FROM :radii\n"
        "WHERE variant = :variant AND certificate = :certificate",
        "certified.at": "SELECT 100 * avg((status = 'certified' AND radius >= :budget::FLOAT)::INT) FROM :radii\n"
        "WHERE variant = :variant AND certificate = :certificate",
        "certified.median": "SELECT median(radius) FILTER (status = 'certified') FROM :radii\n"
        "WHERE variant = :variant AND certificate = :certificate",
        "check.verdict": "SELECT seed, norm, verdict, value, threshold, evidence FROM :checks\n"
        'WHERE variant = :variant AND "check" = :check',
        "cost.models": f"SELECT count(DISTINCT (variant, seed)) {_BROKEN_BY}",
        "cost.success": "SELECT 100 * count_if(status = 'adversarial') / count_if(clean_prediction = label)\n"
        + _BROKEN_BY,
        "cost.forwards": f"SELECT sum(forwards) / count_if(status = 'adversarial') {_BROKEN_BY}",
        "cost.backwards": f"SELECT sum(backwards) / count_if(status = 'adversarial') {_BROKEN_BY}",
    }
)
"""Kind of a table of the page and column of a number, to the query that gives it."""
