"""The one place that decides what a successful attack is: runs an attack over a split, verifies, and makes rows."""

from gauntlet.evaluation.engine import evaluate, evaluate_parts, gather
from gauntlet.evaluation.plan import AttackPlan, Evaluation, EvaluationPart
from gauntlet.subject import CellIdentity

__all__ = ["AttackPlan", "CellIdentity", "Evaluation", "EvaluationPart", "evaluate", "evaluate_parts", "gather"]
