"""Aggregation of an experiment's cells: one table of all samples, and accuracies, costs and comparisons from it."""

from __future__ import annotations

from gauntlet.reporting.aggregation.attacks import ATTACKS_VOLATILE, AttackRun, measure_attacks
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA, certified_accuracies
from gauntlet.reporting.aggregation.choices import choice_table
from gauntlet.reporting.aggregation.combination import combine
from gauntlet.reporting.aggregation.comparisons import compare_variants
from gauntlet.reporting.aggregation.confidence import count_confidences
from gauntlet.reporting.aggregation.coverage import CoverageCurve, measure_coverage
from gauntlet.reporting.aggregation.definitions import WORST_CASE
from gauntlet.reporting.aggregation.design import (
    AttackDesign,
    CertificateDesign,
    ExperimentDesign,
    design_from_config,
    design_from_metadata,
)
from gauntlet.reporting.aggregation.effects import EFFECTS_SCHEMA, measure_effects
from gauntlet.reporting.aggregation.grids import FactorDesign, GridDesign, LevelDesign, variants_table
from gauntlet.reporting.aggregation.headline import headline_budgets
from gauntlet.reporting.aggregation.origins import ORIGINS_VOLATILE, read_origins
from gauntlet.reporting.aggregation.queries import Evaluations, count_missing, norm_grids, open_evaluations
from gauntlet.reporting.aggregation.summary import summarize, summarize_diagnosed
from gauntlet.reporting.aggregation.transfers import list_transfers

__all__ = [
    "ATTACKS_VOLATILE",
    "CERTIFIED_SCHEMA",
    "EFFECTS_SCHEMA",
    "ORIGINS_VOLATILE",
    "WORST_CASE",
    "AttackDesign",
    "AttackRun",
    "CertificateDesign",
    "CoverageCurve",
    "Evaluations",
    "ExperimentDesign",
    "FactorDesign",
    "GridDesign",
    "LevelDesign",
    "certified_accuracies",
    "choice_table",
    "combine",
    "compare_variants",
    "count_confidences",
    "count_missing",
    "design_from_config",
    "design_from_metadata",
    "headline_budgets",
    "list_transfers",
    "measure_attacks",
    "measure_coverage",
    "measure_effects",
    "norm_grids",
    "open_evaluations",
    "read_origins",
    "summarize",
    "summarize_diagnosed",
    "variants_table",
]
