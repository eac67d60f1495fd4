"""Figures and page again, from one results file and what lies beside it: no model, data, configuration, torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gauntlet.aggregation import summarise
from gauntlet.diagnostics.checks import flags_of
from gauntlet.figures import Inputs, available, inputs_beside, render
from gauntlet.report import write_report
from gauntlet.results import read_table, write_table


def draw_from_results(evaluations: Path, folder: Path, name: str | None) -> list[Path]:
    """Draw the figure `name`, or all for which the files suffice, into a folder; returns what was written.

    Raises InputError when the file is missing or no evaluations file.
    """
    with _inputs(evaluations) as inputs:
        names = [name] if name else available(inputs)
        return [path for figure in names for path in render(figure, inputs, folder)]


def report_from_results(evaluations: Path, out: Path) -> None:
    """Write the page, with all figures for which the files suffice. Raises as `draw_from_results` does."""
    with _inputs(evaluations) as inputs, tempfile.TemporaryDirectory() as scratch:
        drawn = {figure: render(figure, inputs, Path(scratch), formats=("svg",))[0] for figure in available(inputs)}
        write_report(out, inputs, figures=drawn)


@contextmanager
def _inputs(evaluations: Path) -> Iterator[Inputs]:
    """Collect what lies beside a combined evaluations file, and summarise it anew."""
    with tempfile.TemporaryDirectory() as scratch:
        summary = Path(scratch) / "summary.parquet"
        beside = inputs_beside(evaluations)
        flags = flags_of(read_table(beside.path("diagnostics"))) if beside.has("diagnostics") else None
        write_table(summary, summarise(evaluations, flags=flags), {})
        yield replace(beside, summary=summary)
