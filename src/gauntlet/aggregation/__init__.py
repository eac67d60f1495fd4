"""From an experiment's cells to its numbers: every sample in one table, a summary with intervals, tables to read."""

from __future__ import annotations

from gauntlet.aggregation.attacks import ATTACKS_SCHEMA, Making, measure_attacks, optimality
from gauntlet.aggregation.certified import CERTIFIED_SCHEMA, certified_accuracies
from gauntlet.aggregation.combined import combine, verify
from gauntlet.aggregation.comparisons import COMPARISONS_SCHEMA, SIGNIFICANT, compare_variants
from gauntlet.aggregation.confidence import Confidence, confidence
from gauntlet.aggregation.coverage import Coverage, coverage
from gauntlet.aggregation.headline import headline, headline_radii
from gauntlet.aggregation.notes import flagged, flags_note
from gauntlet.aggregation.origins import ORIGINS_SCHEMA, origins
from gauntlet.aggregation.outcomes import CLEAN, SEEDS
from gauntlet.aggregation.plan import Plan, PlannedAttack, PlannedCertificate, plan_from, plan_of
from gauntlet.aggregation.queries import WORST_CASE, Evaluations, norm_grids, open_evaluations
from gauntlet.aggregation.summary import SUMMARY_SCHEMA, summarise
from gauntlet.aggregation.tables import (
    NORM_NAMES,
    Percent,
    budget_text,
    counted,
    csv_table,
    escaped,
    is_worst_case,
    markdown_table,
    masked_variants,
    percent,
)
from gauntlet.aggregation.transfers import TRANSFERS_SCHEMA, transfers

__all__ = [
    "ATTACKS_SCHEMA",
    "CERTIFIED_SCHEMA",
    "CLEAN",
    "COMPARISONS_SCHEMA",
    "NORM_NAMES",
    "ORIGINS_SCHEMA",
    "SEEDS",
    "SIGNIFICANT",
    "SUMMARY_SCHEMA",
    "TRANSFERS_SCHEMA",
    "WORST_CASE",
    "Confidence",
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
    "compare_variants",
    "confidence",
    "counted",
    "coverage",
    "csv_table",
    "escaped",
    "flagged",
    "flags_note",
    "headline",
    "headline_radii",
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
    "transfers",
    "verify",
]
