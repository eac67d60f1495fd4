"""Evaluation of attacks: the only place that decides whether an attack succeeded."""

from gauntlet.robustness.evaluation.evaluator import evaluate, evaluate_parts, merge_parts
from gauntlet.robustness.evaluation.types import AttackSettings, Evaluation, EvaluationPart
from gauntlet.robustness.judge import CellIdentity

__all__ = [
    "AttackSettings",
    "CellIdentity",
    "Evaluation",
    "EvaluationPart",
    "evaluate",
    "evaluate_parts",
    "merge_parts",
]
