"""The tables of a paper: LaTeX, Markdown, CSV, and a LaTeX macro for every number, from result files alone."""

from __future__ import annotations

from gauntlet.reporting.tables.content import Cell, Column, Content, TableInputs, read_content
from gauntlet.reporting.tables.rendering import FILES, render_tables

__all__ = ["FILES", "Cell", "Column", "Content", "TableInputs", "read_content", "render_tables"]
