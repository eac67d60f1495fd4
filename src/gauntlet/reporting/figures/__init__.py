"""Figures: one a file, each a function from tables to a matplotlib figure; drawing needs no network and no data set."""

from __future__ import annotations

from gauntlet.reporting.figures.discovery import inputs_beside
from gauntlet.reporting.figures.inputs import Examples, History, Inputs, Inspection
from gauntlet.reporting.figures.rendering import available, draw, render

__all__ = ["Examples", "History", "Inputs", "Inspection", "available", "draw", "inputs_beside", "render"]
