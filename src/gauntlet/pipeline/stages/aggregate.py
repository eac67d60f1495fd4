"""Stage `aggregate`: every cell of an experiment in one table, checked against each other, and what follows from it."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from gauntlet.config import Cell, grid
from gauntlet.config.compatibility import offered_surrogates
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import GauntletError
from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_columns, read_metadata, read_table, write_table
from gauntlet.core.provenance.recipes import SECONDS_KEY, VERSIONS_KEY, Recipe
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.registry import ATTACKS
from gauntlet.reporting.aggregation import (
    ATTACKS_VOLATILE,
    ORIGINS_VOLATILE,
    AttackRun,
    certified_accuracies,
    combine,
    compare_variants,
    design_from_config,
    headline_budgets,
    measure_attacks,
    norm_grids,
    open_evaluations,
    read_origins,
    summarize,
)
from gauntlet.reporting.tables.summary_text import csv_table, markdown_table
from gauntlet.robustness.certificates.counterexamples import find_counterexamples
from gauntlet.robustness.certificates.lipschitz_constants import LipschitzConstants
from gauntlet.robustness.diagnostics.attack_comparisons import (
    COLUMNS,
    GRADIENT_COLUMNS,
    ComparedAttack,
    compare_attacks,
)
from gauntlet.robustness.diagnostics.checks import add_verdicts, collect_flags
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA, measurement_table

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Combine the cells of one experiment and summarise them.

    Raises GauntletError when a cell, or the model it was measured on, was made by another setting than the present one,
    or when an attack found an adversarial example nearer than a certificate allows; the counterexamples are then kept.
    Where `allow_missing` is set, cells that are missing or stale are left out and named in the table instead.
    """
    watch = Stopwatch()
    name, settings = cell.experiment, in_pixels(plan.experiment(cell.experiment))
    attacked = {other: paths.samples(other) for other in grid.evaluations(name, settings)}
    certified = {other: paths.samples(other) for other in grid.certificates(name, settings)}
    probed = list(grid.diagnoses(name, settings))
    left_out = plan.left_out(name)
    if left_out and len(left_out) == len(attacked) + len(certified) + len(probed):
        raise GauntletError("every cell is missing or stale", where=str(cell), remedy="run `snakemake`")
    present = dict.fromkeys(plan.gathered(cell).values())
    _refuse_mixture(plan, list(present))
    for one in dict.fromkeys(part for measured in present for part in (measured.model, measured)):
        # A kill right after publication leaves what the making went on from.
        sweep(one)
    of_others = [key for key, one in settings.certificates.items() if one.certifies != "model"]
    attacks, certificates = ([one for one in files if one in present] for files in (attacked, certified))
    _refuse_violations(cell, attacks, certificates, of_others)
    made = {**recipe.metadata(), **watch.run_metadata()}
    planned = design_from_config(name, settings)
    withdraw(cell)
    for files, out, schema in (
        (attacked, paths.evaluations(name), EVALUATION_SCHEMA),
        (certified, paths.certificates(name), CERTIFICATE_SCHEMA),
    ):
        kept = {one: path for one, path in files.items() if one in present}
        if kept:
            combine(kept, out, design=planned, metadata=made)
        else:
            write_table(out, schema.empty_table(), {**made, **planned.metadata()})
    makings = {(one.variant, one.seed, one.name): _making(plan, one) for one in attacked if one in present}
    measured = measure_attacks(paths.evaluations(name), makings)
    write_table(paths.attacks(name), measured, {**made, **planned.metadata()}, volatile=ATTACKS_VOLATILE)
    write_table(
        paths.origins(name), read_origins(_sources(present)), {**made, **planned.metadata()}, volatile=ORIGINS_VOLATILE
    )
    diagnostics = _diagnosed(name, settings, present)
    write_table(paths.diagnostics(name), diagnostics, {**made, **planned.metadata()})
    summary = summarize(paths.evaluations(name), flags=collect_flags(diagnostics))
    write_text(paths.table(name, "csv"), csv_table(summary))
    constants = _constants([one for one in certified if one in present])
    with open_evaluations(paths.evaluations(name)) as opened:
        radii = headline_budgets(planned, norm_grids(opened))
    certified_accuracy = certified_accuracies(paths.certificates(name), constants=constants, radii=radii)
    compared = compare_variants(paths.evaluations(name), paths.certificates(name), certified=certified_accuracy)
    write_table(paths.comparisons(name), compared, {**made, **planned.metadata()})
    table = markdown_table(summary, certified=certified_accuracy, missing=left_out, uncounted=planned.uncounted)
    write_text(paths.table(name, "md"), table)
    said = {**recipe.metadata(), **watch.run_metadata(), **planned.metadata()}
    write_table(paths.certified(name), certified_accuracy, said)
    write_table(paths.summary(name), summary, said)
    without = f", without {len(left_out)} that are missing or stale" if left_out else ""
    log.info("%s: %d cells%s", cell, len(attacked) + len(certified) + len(probed) - len(left_out), without)


def compared_attack(name: str, settings: Experiment, variant: str) -> ComparedAttack:
    """Say what comparisons must know of an attack of the configuration on a variant.

    `adaptive` takes another view only where the head has one; elsewhere it is one more attack on the logits.
    """
    attack = settings.attacks[name]
    tags = ATTACKS.entry(attack.attack.name).tags
    steps = tags.get("steps", attack.attack.options.get("steps"))
    return ComparedAttack(
        name,
        attack.norm,
        access=str(tags.get("access", "gradient")),
        search=str(tags.get("search", "")),
        steps=steps if isinstance(steps, int) else None,
        surrogate="adaptive"
        if tags.get("adaptive") and offered_surrogates(settings.variants[variant])
        else attack.surrogate,
        transfer=attack.transfer_from is not None,
        epsilons=attack.epsilons,
    )


def _diagnosed(name: str, settings: Experiment, present: Container[Cell]) -> pa.Table:
    """Give every check on every model its verdict: what probes measured, and what follows from the evaluations.

    One model is in memory at a time; the cells were verified as they were combined.
    """
    probed = set(grid.diagnoses(name, settings))
    tables = [MEASUREMENT_SCHEMA.empty_table()]
    for model in grid.models(name, settings):
        probe = Cell("diagnose", name, model.variant, model.seed)
        if probe in probed and probe in present:
            tables.append(read_table(paths.probes(probe)))
        facts = {attack: compared_attack(attack, settings, model.variant) for attack in settings.attacks}
        cells = [Cell("evaluate", name, model.variant, model.seed, attack) for attack in settings.attacks]
        columns = (*COLUMNS, *GRADIENT_COLUMNS.values())
        rows = [(facts[one.name], read_columns(paths.samples(one), columns)) for one in cells if one in present]
        found = compare_attacks(rows)
        tables.append(measurement_table(found, experiment=name, variant=model.variant, seed=model.seed))
    return add_verdicts(pa.concat_tables(tables))


def _sources(present: Iterable[Cell]) -> dict[Cell, Path]:
    """Map models and what was measured on them to the files that say what made them; a model's is its history."""
    measured = list(present)
    models = {model: paths.history(model) for model in dict.fromkeys(cell.model for cell in measured)}
    return {
        **{model: path for model, path in models.items() if path.is_file()},
        **{cell: paths.products(cell)[0] for cell in measured},
    }


def _making(plan: Plan, cell: Cell) -> AttackRun:
    """Read from a cell's file how it was made; the time of one whose shards worked elsewhere is not known."""
    settings = plan.experiment(cell.experiment).attacks[cell.name]
    made = read_metadata(paths.samples(cell))
    library = ATTACKS.library(settings.attack.name)
    versions = dict(pair.split(" ", 1) for pair in made.get(VERSIONS_KEY, "").split(", ") if " " in pair)
    seconds = made.get(SECONDS_KEY)
    return AttackRun(float(seconds) if seconds and settings.shards == 1 else None, library, versions.get(library))


def _constants(cells: Iterable[Cell]) -> dict[tuple[str, str], tuple[float, float]]:
    """Read claimed and measured Lipschitz constants: per variant and certificate the largest over seeds."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for cell in cells:
        key, checked = (cell.variant, cell.name), LipschitzConstants.from_metadata(read_metadata(paths.samples(cell)))
        if checked is not None:
            claimed, measured = found.get(key, (0.0, 0.0))
            found[key] = max(claimed, checked.claimed), max(measured, checked.measured)
    return found


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


def _refuse_violations(
    cell: Cell, attacked: Iterable[Cell], certified: Iterable[Cell], of_others: Sequence[str]
) -> None:
    """Hold every certificate of a model against every attack on it; those of other classifiers are `of_others`."""
    found = []
    evaluations = list(attacked)
    for certificate in certified:
        tables = [read_table(paths.samples(other)) for other in evaluations if other.model == certificate.model]
        if tables:
            rows = read_table(paths.samples(certificate))
            found.append(find_counterexamples(rows, pa.concat_tables(tables), exclude=of_others))
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
