"""From all cells of an experiment to its combined rows, checked against each other, and its summaries."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from gauntlet.config.compatibility import losses_of, offered_surrogates
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import GauntletError
from gauntlet.core.files import write_text
from gauntlet.core.parquet import read_columns, read_metadata, read_table, write_table
from gauntlet.core.provenance.recipes import SECONDS_KEY, VERSIONS_KEY
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, CellJob
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.certify.declaration import certificates
from gauntlet.pipeline.stages.diagnose.declaration import diagnoses
from gauntlet.pipeline.stages.evaluate.declaration import evaluations
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.stages.train.chosen import choice_record, network_variant
from gauntlet.pipeline.stages.train.declaration import measured_models, model_of, models
from gauntlet.registry import ATTACKS
from gauntlet.reporting.aggregation import (
    ATTACKS_VOLATILE,
    ORIGINS_VOLATILE,
    AttackRun,
    certified_accuracies,
    choice_table,
    combine,
    compare_variants,
    design_from_config,
    headline_budgets,
    measure_attacks,
    measure_effects,
    norm_grids,
    open_evaluations,
    read_origins,
    summarize_diagnosed,
    variants_table,
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
from gauntlet.robustness.diagnostics.checks import add_verdicts
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA, measurement_table

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Combine the cells of one experiment and summarize them.

    Raises GauntletError when an attack found an adversarial example within a certified radius; the counterexamples are
    then kept. Where `allow_missing` is set, cells that are missing or stale are left out and named in the table.
    """
    watch = Stopwatch()
    cell, name, settings = job.cell, job.cell.experiment, in_pixels(job.experiment)
    inputs = dict.fromkeys(job.inputs.values())
    chosen = [model for model in models(job.scope) if model in inputs and model.variant in settings.choices]
    present = dict.fromkeys(other for other in inputs if other != model_of(other))
    for measured in present:
        # A kill right after publication leaves partial files.
        sweep(measured)
        sweep(model_of(measured))
    attacks = [other for other in evaluations(job.scope) if other in present]
    certified = [other for other in certificates(job.scope) if other in present]
    probed = [other for other in diagnoses(job.scope) if other in present]
    _refuse_violations(cell, attacks, certified, settings)
    withdraw(cell)
    design = design_from_config(name, settings)
    made = {**job.recipe.metadata(), **watch.run_metadata(), **design.metadata()}
    for cells, out, schema in (
        (attacks, paths.evaluations(name), EVALUATION_SCHEMA),
        (certified, paths.certificates(name), CERTIFICATE_SCHEMA),
    ):
        if cells:
            combine({other: paths.samples(other) for other in cells}, out, design=design, metadata=made)
        else:
            write_table(out, schema.empty_table(), made)
    costs = {(other.variant, other.seed, other.name): _attack_run(job, other) for other in attacks}
    write_table(paths.attacks(name), measure_attacks(paths.evaluations(name), costs), made, volatile=ATTACKS_VOLATILE)
    write_table(
        paths.choices(name), choice_table({model: choice_record(model) for model in chosen}, job.experiment.drawn), made
    )
    write_table(paths.origins(name), read_origins(_sources(present)), made, volatile=ORIGINS_VOLATILE)
    diagnostics = _diagnosed(job, settings, attacks, probed)
    write_table(paths.diagnostics(name), diagnostics, made)
    summary = summarize_diagnosed(paths.evaluations(name), diagnostics)
    write_text(paths.table(name, "csv"), csv_table(summary))
    with open_evaluations(paths.evaluations(name)) as opened:
        radii = headline_budgets(design, norm_grids(opened))
    certified_accuracy = certified_accuracies(paths.certificates(name), constants=_constants(certified), radii=radii)
    compared = compare_variants(paths.evaluations(name), paths.certificates(name), certified=certified_accuracy)
    write_table(paths.comparisons(name), compared, made)
    write_table(paths.variants(name), variants_table(design), made)
    effects = measure_effects(paths.evaluations(name), summary, paths.certificates(name), certified_accuracy)
    write_table(paths.effects(name), effects, made)
    table = markdown_table(
        summary,
        certified=certified_accuracy,
        missing=job.left_out,
        uncounted=design.uncounted,
        single_losses=design.single_losses,
    )
    write_text(paths.table(name, "md"), table)
    made |= watch.run_metadata()
    write_table(paths.certified(name), certified_accuracy, made)
    write_table(paths.summary(name), summary, made)
    without = f", without {len(job.left_out)} that are missing or stale" if job.left_out else ""
    log.info("%s: %d cells%s", cell, len(present), without)


def compared_attack(name: str, settings: Experiment, variant: str) -> ComparedAttack:
    """Return what comparisons of attacks use of an attack's settings on the network of a variant.

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
        if tags.get("adaptive") and offered_surrogates(settings.networks[variant])
        else attack.surrogate,
        transfer=attack.transfer_from is not None,
        epsilons=attack.epsilons,
        losses=losses_of(attack.attack),
    )


def _diagnosed(job: CellJob, settings: Experiment, attacks: Sequence[Cell], probed: Sequence[Cell]) -> pa.Table:
    """Return the verdict of every check on every model, from its probes and from its evaluations.

    One model's rows are in memory at a time; the cells were verified as they were combined.
    """
    tables = [MEASUREMENT_SCHEMA.empty_table()]
    probes_of, attacks_on = _by_model(probed), _by_model(attacks)
    for model in measured_models(job.scope):
        tables += [read_table(paths.probes(probe)) for probe in probes_of.get(model, [])]
        if model not in attacks_on:
            continue
        network = network_variant(model, settings)
        facts = {attack: compared_attack(attack, settings, network) for attack in settings.attacks}
        columns = (*COLUMNS, *GRADIENT_COLUMNS.values())
        rows = [(facts[other.name], read_columns(paths.samples(other), columns)) for other in attacks_on[model]]
        tables.append(
            measurement_table(
                compare_attacks(rows), experiment=model.experiment, variant=model.variant, seed=model.seed
            )
        )
    return add_verdicts(pa.concat_tables(tables))


def _by_model(cells: Iterable[Cell]) -> dict[Cell, list[Cell]]:
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(model_of(cell), []).append(cell)
    return groups


def _sources(measured: Iterable[Cell]) -> dict[Cell, Path]:
    """Map models and what was measured on them to the files that record what made them; a model's is its history."""
    cells = list(measured)
    histories = {model: paths.history(model) for model in dict.fromkeys(map(model_of, cells))}
    return {
        **{model: path for model, path in histories.items() if path.is_file()},
        **{cell: cell.outputs[0] for cell in cells},
    }


def _attack_run(job: CellJob, cell: Cell) -> AttackRun:
    """Read from a cell's file how it was made."""
    attack = job.experiment.attacks[cell.name]
    made = read_metadata(paths.samples(cell))
    library = ATTACKS.library(attack.attack.name)
    versions = dict(pair.split(" ", 1) for pair in made.get(VERSIONS_KEY, "").split(", ") if " " in pair)
    seconds = made.get(SECONDS_KEY)
    return AttackRun(float(seconds) if seconds else None, library, versions.get(library))


def _constants(certified: Iterable[Cell]) -> dict[tuple[str, str], tuple[float, float]]:
    """Read claimed and measured Lipschitz constants: per variant and certificate the largest over seeds."""
    constants: dict[tuple[str, str], tuple[float, float]] = {}
    for cell in certified:
        key, checked = (cell.variant, cell.name), LipschitzConstants.from_metadata(read_metadata(paths.samples(cell)))
        if checked is not None:
            claimed, measured = constants.get(key, (0.0, 0.0))
            constants[key] = max(claimed, checked.claimed), max(measured, checked.measured)
    return constants


def _refuse_violations(cell: Cell, attacks: Sequence[Cell], certified: Sequence[Cell], settings: Experiment) -> None:
    """Compare every certificate of a model with every attack on it; those of other classifiers are left out."""
    of_others = [name for name, certificate in settings.certificates.items() if certificate.certifies != "model"]
    attacks_on = _by_model(attacks)
    tables = []
    for certificate in certified:
        attacked = [read_table(paths.samples(other)) for other in attacks_on.get(model_of(certificate), [])]
        if attacked:
            rows = read_table(paths.samples(certificate))
            tables.append(find_counterexamples(rows, pa.concat_tables(attacked), exclude=of_others))
    counterexamples = pa.concat_tables(tables) if tables else None
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
