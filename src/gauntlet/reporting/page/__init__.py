"""The page: one HTML file with the numbers, figures and provenance of an experiment."""

from __future__ import annotations

from gauntlet.reporting.page.page import render_report, write_report

__all__ = ["render_report", "write_report"]
