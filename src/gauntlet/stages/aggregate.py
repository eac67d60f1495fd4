"""Stage `aggregate`: every cell of an experiment in one table, checked against each other, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import pyarrow as pa

from gauntlet import paths
from gauntlet.aggregation import combine, csv_table, markdown_table, plan_of, summarise
from gauntlet.certificates.check import violations
from gauntlet.config import Cell, grid
from gauntlet.errors import GauntletError
from gauntlet.files import write_text
from gauntlet.planning import Plan
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import Recipe
from gauntlet.results import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA, read_table, write_table
from gauntlet.stages.publishing import withdraw

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Combine the cells of one experiment and summarise them.

    Raises GauntletError when a cell, or the model it was measured on, was made by another setting than the present one,
    or when an attack found an adversarial example nearer than a certificate allows; the counterexamples are then kept.
    Where `allow_missing` is set, cells that are missing or stale are left out and named in the table instead.
    """
    watch = Stopwatch()
    name, settings = cell.experiment, plan.experiment(cell.experiment)
    attacked = {other: paths.samples(other) for other in grid.evaluations(name, settings)}
    certified = {other: paths.samples(other) for other in grid.certificates(name, settings)}
    left_out = plan.left_out(name)
    if left_out and len(left_out) == len(attacked) + len(certified):
        raise GauntletError("every cell is missing or stale", where=str(cell), remedy="run `snakemake`")
    present = dict.fromkeys(plan.gathered(cell).values())
    _refuse_mixture(plan, list(present))
    _refuse_violations(cell, [one for one in attacked if one in present], [one for one in certified if one in present])
    made = {**recipe.metadata(), **watch.circumstances()}
    planned = plan_of(name, settings)
    withdraw(cell)
    for files, out, schema in (
        (attacked, paths.evaluations(name), EVALUATION_SCHEMA),
        (certified, paths.certificates(name), CERTIFICATE_SCHEMA),
    ):
        kept = {one: path for one, path in files.items() if one in present}
        if kept:
            combine(kept, out, plan=planned, metadata=made)
        else:
            write_table(out, schema.empty_table(), {**made, **planned.metadata()})
    summary = summarise(paths.evaluations(name))
    write_text(paths.table(name, "csv"), csv_table(summary))
    write_text(paths.table(name, "md"), markdown_table(summary, missing=left_out))
    write_table(paths.summary(name), summary, {**recipe.metadata(), **watch.circumstances(), **planned.metadata()})
    without = f", without {len(left_out)} that are missing or stale" if left_out else ""
    log.info("%s: %d cells%s", cell, len(attacked) + len(certified) - len(left_out), without)


def _refuse_mixture(plan: Plan, cells: Iterable[Cell]) -> None:
    """Refuse cells whose string is not the one that the present configuration, code and inputs give."""
    # A model that was exchanged under its evaluations refutes them all, though each still holds what was measured.
    checked = dict.fromkeys(part for cell in cells for part in (cell.model, cell))
    others = [cell for cell in checked if not plan.is_current(cell)]
    if others:
        raise GauntletError(
            f"{len(others)} cells were made by another configuration, code, data or model: {_listed(others)}",
            remedy="`gauntlet status` says what differs; run `snakemake` again, which makes them anew",
        )


def _listed(cells: Sequence[Cell]) -> str:
    shown = "; ".join(str(cell) for cell in cells[:8])
    return shown if len(cells) <= 8 else f"{shown}; and {len(cells) - 8} more"


def _refuse_violations(cell: Cell, attacked: Iterable[Cell], certified: Iterable[Cell]) -> None:
    """Hold every certificate against every attack on the same model."""
    found = []
    evaluations = list(attacked)
    for certificate in certified:
        tables = [read_table(paths.samples(other)) for other in evaluations if other.model == certificate.model]
        if tables:
            found.append(violations(read_table(paths.samples(certificate)), pa.concat_tables(tables)))
    counterexamples = pa.concat_tables(found) if found else None
    kept = paths.counterexamples(cell.experiment)
    if counterexamples is None or not len(counterexamples):
        kept.unlink(missing_ok=True)
        return
    write_table(kept, counterexamples, {})
    worst = counterexamples.slice(0, 1).to_pylist()[0]
    raise GauntletError(
        f"{len(counterexamples)} certificates are refuted: variant {worst['variant']}, seed {worst['seed']}, sample"
        f" {worst['index']} is certified to {worst['radius']:.4f} in {worst['norm']} and {worst['attack']} fools it at"
        f" {worst['distance']:.4f}",
        where=str(kept),
        remedy="the network is not as Lipschitz as it claims, or the certificate is wrong",
    )
