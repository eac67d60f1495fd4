"""Stage `table`: the tables of a paper, from the results of one experiment."""

from __future__ import annotations

import logging
from pathlib import Path

from gauntlet import paths
from gauntlet.aggregation import compare_variants, headline, norm_grids, open_evaluations, summarise
from gauntlet.aggregation.certified import CERTIFIED_SCHEMA, certified_accuracies
from gauntlet.config import Cell
from gauntlet.diagnostics.checks import flags_of
from gauntlet.files import write_text
from gauntlet.planning import Plan
from gauntlet.provenance.recipes import Recipe, mark
from gauntlet.results import read_table
from gauntlet.stages.publishing import withdraw
from gauntlet.tables import TableInputs, render_tables

log = logging.getLogger("gauntlet")


def run(_plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Write the tables of one experiment."""
    name = cell.experiment
    made = (read_table(path(name)) for path in (paths.summary, paths.comparisons, paths.certified))
    texts = render_tables(TableInputs(paths.evaluations(name), *made), mark=mark(recipe.string))
    withdraw(cell)
    # The first file says what made them all, and is written last.
    for file in reversed(paths.products(cell)):
        write_text(file, texts[file.name])
    log.info("%s: %s", cell, ", ".join(map(str, paths.products(cell))))


def write_from_results(evaluations: Path, folder: Path) -> list[Path]:
    """Write the tables from one evaluations.parquet and what lies beside it, with no model, data or configuration.

    Certificates and verdicts of diagnostics are taken from `certificates.parquet` and `diagnostics.parquet`, if there.
    """
    certificates, diagnostics = (evaluations.with_name(f"{name}.parquet") for name in ("certificates", "diagnostics"))
    flags = flags_of(read_table(diagnostics)) if diagnostics.is_file() else None
    with open_evaluations(evaluations) as opened:
        radii = headline(opened.plan, norm_grids(opened))
    there = certificates if certificates.is_file() else None
    certified = certified_accuracies(there, radii=radii) if there else CERTIFIED_SCHEMA.empty_table()
    compared = compare_variants(evaluations, there, certified=certified)
    texts = render_tables(TableInputs(evaluations, summarise(evaluations, flags=flags), compared, certified))
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]
