"""Inspection: what a trained network's parts compute, and what excites them, as small arrays for pictures."""

from __future__ import annotations

from gauntlet.inspection.engine import inspect
from gauntlet.inspection.negatives import training_negatives

__all__ = ["inspect", "training_negatives"]
