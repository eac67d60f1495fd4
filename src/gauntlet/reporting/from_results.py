"""Figures, tables and page from the folder of a results file, without configuration, data, models or torch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gauntlet.core.errors import InputError
from gauntlet.core.files import remove_leftovers, write_text
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, CHOICE_SCHEMA
from gauntlet.reporting.aggregation import (
    CERTIFIED_SCHEMA,
    certified_accuracies,
    compare_variants,
    design_from_metadata,
    headline_budgets,
    measure_effects,
    norm_grids,
    open_evaluations,
    summarize_diagnosed,
)
from gauntlet.reporting.aggregation.attacks import ATTACKS_SCHEMA
from gauntlet.reporting.aggregation.origins import ORIGINS_SCHEMA
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.figures.style import find_style
from gauntlet.reporting.page import write_report
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.effect_files import render_effects
from gauntlet.reporting.tables.files import render_tables
from gauntlet.reporting.tables.published_files import render_published
from gauntlet.reporting.tables.published_rows import PUBLISHED_SCHEMA
from gauntlet.robustness.diagnostics.checks import DIAGNOSTICS_SCHEMA

log = logging.getLogger("gauntlet")

_COMPANIONS = {
    "certificates": CERTIFICATE_SCHEMA,
    "attacks": ATTACKS_SCHEMA,
    "diagnostics": DIAGNOSTICS_SCHEMA,
    "origins": ORIGINS_SCHEMA,
    "choices": CHOICE_SCHEMA,
    "published": PUBLISHED_SCHEMA,
}


def figures_from_results(evaluations: Path, folder: Path, name: str | None, style: str = "paper") -> list[Path]:
    """Draw the figure `name`, or all whose files exist, into a folder; return the files written.

    Raises InputError when the evaluations are missing or damaged, and for an unknown figure or style.
    """
    figure_style = find_style(style)
    _require_folder(folder)
    with _inputs(evaluations) as inputs:
        names = [name] if name else available_figures(inputs)
        return [path for figure in names for path in write_figure(figure, inputs, folder, style=figure_style)]


def tables_from_results(evaluations: Path, folder: Path) -> list[Path]:
    """Write the tables for a paper into a folder; return the files written.

    Certificates, diagnostics and published numbers are read from `certificates.parquet`, `diagnostics.parquet` and
    `published.parquet`, if these exist.
    Raises InputError when the evaluations are missing or damaged.
    """
    _require_folder(folder)
    with _inputs(evaluations) as inputs:
        certified = _certified(inputs)
        compared = compare_variants(evaluations, inputs.certificates, certified=certified)
        summary = read_table(inputs.path("summary"))
        texts = render_tables(TableInputs(evaluations, summary, compared, certified))
        design = design_from_metadata(read_metadata(evaluations))
        if design and design.grids:
            texts |= render_effects(read_table(inputs.path("effects")), design)
        if inputs.has("published"):
            texts |= render_published(read_table(inputs.path("published")), inputs.titles)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def report_from_results(evaluations: Path, out: Path) -> list[Path]:
    """Write the page, with all figures whose files exist; return its path.

    Raises InputError when the evaluations are missing or damaged.
    """
    if out.is_dir():
        raise InputError("is a folder", where=str(out), remedy="name a file, such as report.html")
    with _inputs(evaluations) as opened, tempfile.TemporaryDirectory() as scratch:
        comparisons = Path(scratch) / "comparisons.parquet"
        write_table(comparisons, compare_variants(evaluations), {})
        inputs = replace(opened, comparisons=comparisons)
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


def _readable(inputs: FigureInputs) -> FigureInputs:
    """Leave out files next to the evaluations that lack a column, such as those of an earlier version."""
    for name, schema in _COMPANIONS.items():
        if inputs.has(name):
            path = inputs.path(name)
            read_metadata(path)  # raises for a damaged file
            missing = [column for column in schema.names if column not in pq.read_schema(path).names]
            if missing:
                log.warning("%s is left out: it has no column %s; aggregate again", path, missing[0])
                absent: dict[str, Any] = {name: None}
                inputs = replace(inputs, **absent)
    return inputs


@contextmanager
def _inputs(evaluations: Path) -> Iterator[FigureInputs]:
    """Yield the inputs from the folder of the evaluations, with a new summary and, of grids, new effects."""
    with tempfile.TemporaryDirectory() as scratch:
        summary, effects = Path(scratch) / "summary.parquet", Path(scratch) / "effects.parquet"
        inputs = _readable(find_inputs(evaluations))
        design = design_from_metadata(read_metadata(evaluations))
        if design is None:
            log.warning(
                "%s has no experiment design: no titles, no headline, and missing cells cannot be counted", evaluations
            )
        if not inputs.has("diagnostics"):
            log.warning("no diagnostics.parquet next to %s: masked gradients cannot be marked", evaluations)
        diagnostics = read_table(inputs.path("diagnostics")) if inputs.has("diagnostics") else None
        summarized = summarize_diagnosed(evaluations, diagnostics)
        write_table(summary, summarized, {})
        has_effects = design is not None and bool(design.grids)
        if has_effects:
            measured = measure_effects(evaluations, summarized, inputs.certificates, _certified(inputs))
            write_table(effects, measured, {})
        yield replace(inputs, summary=summary, effects=effects if has_effects else None)


def _certified(inputs: FigureInputs) -> pa.Table:
    """Return the certified accuracies of the results, at the radii of the tables too."""
    if inputs.certificates is None:
        return CERTIFIED_SCHEMA.empty_table()
    with open_evaluations(inputs.path("evaluations")) as opened:
        radii = headline_budgets(opened.design, norm_grids(opened))
    return certified_accuracies(inputs.certificates, radii=radii)
