"""From an experiment's cells to its numbers: every sample in one table, a summary with intervals, tables to read."""

from __future__ import annotations

from gauntlet.reporting.aggregation.attacks import ATTACKS_SCHEMA, Making, measure_attacks, optimality
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA, certified_accuracies
from gauntlet.reporting.aggregation.combination import combine, verify
from gauntlet.reporting.aggregation.comparisons import COMPARISONS_SCHEMA, SIGNIFICANT, compare_variants
from gauntlet.reporting.aggregation.confidence import Confidence, confidence
from gauntlet.reporting.aggregation.coverage import Coverage, coverage
from gauntlet.reporting.aggregation.definitions import WORST_CASE
from gauntlet.reporting.aggregation.design import Plan, PlannedAttack, PlannedCertificate, plan_from, plan_of
from gauntlet.reporting.aggregation.headline import headline, headline_radii
from gauntlet.reporting.aggregation.origins import ORIGINS_SCHEMA, origins
from gauntlet.reporting.aggregation.outcomes import CLEAN, SEEDS
from gauntlet.reporting.aggregation.queries import Evaluations, norm_grids, open_evaluations
from gauntlet.reporting.aggregation.summary import SUMMARY_SCHEMA, summarise
from gauntlet.reporting.aggregation.transfers import TRANSFERS_SCHEMA, transfers

__all__ = [
    "ATTACKS_SCHEMA",
    "CERTIFIED_SCHEMA",
    "CLEAN",
    "COMPARISONS_SCHEMA",
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
    "Plan",
    "PlannedAttack",
    "PlannedCertificate",
    "certified_accuracies",
    "combine",
    "compare_variants",
    "confidence",
    "coverage",
    "headline",
    "headline_radii",
    "measure_attacks",
    "norm_grids",
    "open_evaluations",
    "optimality",
    "origins",
    "plan_from",
    "plan_of",
    "summarise",
    "transfers",
    "verify",
]
