"""Figures, tables and page again, from one results file and what lies beside it: no model, data, config or torch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gauntlet.core.errors import InputError
from gauntlet.core.files import remove_leftovers, write_text
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.reporting.aggregation import (
    CERTIFIED_SCHEMA,
    certified_accuracies,
    compare_variants,
    design_from_metadata,
    headline_budgets,
    norm_grids,
    open_evaluations,
    summarize,
)
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.figures.style import find_style
from gauntlet.reporting.page import write_report
from gauntlet.reporting.tables import TableInputs, render_tables
from gauntlet.robustness.diagnostics.checks import collect_flags

log = logging.getLogger("gauntlet")


def draw_from_results(evaluations: Path, folder: Path, name: str | None, style: str = "paper") -> list[Path]:
    """Draw the figure `name`, or all for which the files suffice, into a folder; returns what was written.

    Raises InputError when the file is missing or no evaluations file, and for a style that there is not.
    """
    look = find_style(style)
    _require_folder(folder)
    with _inputs(evaluations) as inputs:
        names = [name] if name else available_figures(inputs)
        return [path for figure in names for path in write_figure(figure, inputs, folder, style=look)]


def tables_from_results(evaluations: Path, folder: Path) -> list[Path]:
    """Write the tables of a paper, into a folder; returns what was written.

    Certificates and verdicts of diagnostics are taken from `certificates.parquet` and `diagnostics.parquet`, if there.
    Raises as `draw_from_results` does.
    """
    _require_folder(folder)
    with _inputs(evaluations) as inputs:
        with open_evaluations(evaluations) as opened:
            radii = headline_budgets(opened.design, norm_grids(opened))
        there = inputs.certificates
        certified = certified_accuracies(there, radii=radii) if there else CERTIFIED_SCHEMA.empty_table()
        compared = compare_variants(evaluations, there, certified=certified)
        summary = read_table(inputs.path("summary"))
    texts = render_tables(TableInputs(evaluations, summary, compared, certified))
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def report_from_results(evaluations: Path, out: Path) -> list[Path]:
    """Write the page, with all figures for which the files suffice; returns its path.

    Raises as `draw_from_results` does.
    """
    if out.is_dir():
        raise InputError("is a folder", where=str(out), remedy="name a file, such as report.html")
    with _inputs(evaluations) as inputs, tempfile.TemporaryDirectory() as scratch:
        drawn = {
            figure: write_figure(figure, inputs, Path(scratch), formats=("svg",))[0]
            for figure in available_figures(inputs)
        }
        write_report(out, inputs, figures=drawn)
    remove_leftovers(out)
    return [out]


def _require_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file", where=str(folder), remedy="name a folder, which need not be there")


@contextmanager
def _inputs(evaluations: Path) -> Iterator[FigureInputs]:
    """Collect what lies beside a combined evaluations file, and summarise it anew."""
    with tempfile.TemporaryDirectory() as scratch:
        summary = Path(scratch) / "summary.parquet"
        beside = find_inputs(evaluations)
        if design_from_metadata(read_metadata(evaluations)) is None:
            log.warning("%s: its plan is lost; titles and headline are too, and missing cells are guessed", evaluations)
        if not beside.has("diagnostics"):
            log.warning("%s: no diagnostics.parquet beside it; numbers in doubt cannot be marked", evaluations)
        flags = collect_flags(read_table(beside.path("diagnostics"))) if beside.has("diagnostics") else None
        write_table(summary, summarize(evaluations, flags=flags), {})
        yield replace(beside, summary=summary)
