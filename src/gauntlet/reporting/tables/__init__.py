"""Tables of a paper in LaTeX, Markdown and CSV, with a LaTeX macro for every number, from result files alone."""

from __future__ import annotations

from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables

__all__ = ["TableInputs", "render_tables"]
