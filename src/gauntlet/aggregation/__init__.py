"""From an experiment's cells to its numbers: every sample in one table, a summary with intervals, tables to read."""

from __future__ import annotations

from gauntlet.aggregation.combined import combine, verify
from gauntlet.aggregation.plan import Plan, PlannedAttack, plan_from, plan_of
from gauntlet.aggregation.queries import WORST_CASE, Evaluations, norm_grids, open_evaluations
from gauntlet.aggregation.summary import SUMMARY_SCHEMA, summarise
from gauntlet.aggregation.tables import (
    NORM_NAMES,
    Percent,
    budget_text,
    counted,
    csv_table,
    is_worst_case,
    markdown_table,
    percent,
)

__all__ = [
    "NORM_NAMES",
    "SUMMARY_SCHEMA",
    "WORST_CASE",
    "Evaluations",
    "Percent",
    "Plan",
    "PlannedAttack",
    "budget_text",
    "combine",
    "counted",
    "csv_table",
    "is_worst_case",
    "markdown_table",
    "norm_grids",
    "open_evaluations",
    "percent",
    "plan_from",
    "plan_of",
    "summarise",
    "verify",
]
