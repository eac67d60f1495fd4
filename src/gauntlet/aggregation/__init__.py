"""From an experiment's cells to its numbers: every sample in one table, a summary with intervals, tables to read."""

from __future__ import annotations

from gauntlet.aggregation.attacks import ATTACKS_SCHEMA, Making, measure_attacks, optimality
from gauntlet.aggregation.certified import CERTIFIED_SCHEMA, certified_accuracies
from gauntlet.aggregation.combined import combine, verify
from gauntlet.aggregation.coverage import Coverage, coverage
from gauntlet.aggregation.origins import ORIGINS_SCHEMA, origins
from gauntlet.aggregation.plan import Plan, PlannedAttack, PlannedCertificate, plan_from, plan_of
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
    masked_variants,
    percent,
)

__all__ = [
    "ATTACKS_SCHEMA",
    "CERTIFIED_SCHEMA",
    "NORM_NAMES",
    "ORIGINS_SCHEMA",
    "SUMMARY_SCHEMA",
    "WORST_CASE",
    "Coverage",
    "Evaluations",
    "Making",
    "Percent",
    "Plan",
    "PlannedAttack",
    "PlannedCertificate",
    "budget_text",
    "certified_accuracies",
    "combine",
    "counted",
    "coverage",
    "csv_table",
    "is_worst_case",
    "markdown_table",
    "masked_variants",
    "measure_attacks",
    "norm_grids",
    "open_evaluations",
    "optimality",
    "origins",
    "percent",
    "plan_from",
    "plan_of",
    "summarise",
    "verify",
]
