"""What an experiment left behind for the figures and the report, gathered from its configuration."""

from __future__ import annotations

from gauntlet.config import grid
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.staleness import Plan
from gauntlet.reporting.figures.inputs import Examples, History, Inputs, Inspection
from gauntlet.reporting.figures.training_names import loss_name, opponent_name


def figure_inputs(plan: Plan, experiment: str) -> Inputs:
    """List the tables and images of an experiment, variants in the order of the configuration.

    Where `allow_missing` is set, those of cells that are missing or stale are left out.
    """
    settings = plan.experiment(experiment)
    absent = settings.allow_missing
    shown = settings.shown()
    certified = any(True for _ in grid.certificates(experiment, settings))
    return Inputs(
        variants=tuple(settings.variants),
        evaluations=paths.evaluations(experiment),
        summary=paths.summary(experiment),
        certificates=paths.certificates(experiment) if certified else None,
        attacks=paths.attacks(experiment),
        diagnostics=paths.diagnostics(experiment),
        origins=paths.origins(experiment),
        histories=tuple(
            History(
                model.variant,
                model.seed,
                paths.history(model),
                loss_name(settings.variants[model.variant].loss.as_dict()),
                opponent_name(settings.training_of(model.variant).as_dict()),
            )
            for model in grid.models(experiment, settings)
            if not absent or plan.is_current(model)
        ),
        examples=tuple(
            Examples(cell.variant, cell.seed, cell.name, paths.examples(cell))
            for cell in grid.evaluations(experiment, settings)
            if not absent or plan.is_current(cell)
        ),
        inspections=tuple(
            Inspection(cell.variant, cell.seed, paths.inspection(cell))
            for cell in grid.inspections(experiment, settings)
            if not absent or plan.is_current(cell)
        ),
        classes=load_data_manifest(paths.data_folder(paths.dataset_id(settings.dataset))).classes,
        titles=shown.get("variants", {}),
        attack_titles=shown.get("attacks", {}),
    )
