"""The one place that decides what a successful attack is: runs an attack over a split, verifies, and makes rows."""

from gauntlet.robustness.evaluation.evaluator import evaluate, evaluate_parts, gather
from gauntlet.robustness.evaluation.types import AttackPlan, Evaluation, EvaluationPart
from gauntlet.robustness.judge import CellIdentity

__all__ = ["AttackPlan", "CellIdentity", "Evaluation", "EvaluationPart", "evaluate", "evaluate_parts", "gather"]
