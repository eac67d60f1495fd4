"""Declaration of the stage `diagnose`."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.config.schema import Experiment
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import model_modules, modules_of, network_path, network_slice
from gauntlet.pipeline.stages.train.declaration import measured_models, model_inputs, model_of
from gauntlet.registry import ATTACKS, Spec


def diagnoses(scope: Scope) -> Iterator[Cell]:
    """List every model that is probed, in the order of the configuration; none where nothing is attacked."""
    if scope.settings.attacks and scope.settings.diagnostics.enabled:
        for model in measured_models(scope):
            yield Cell(STAGE, scope.name, model.variant, model.seed)


def probe_draws(settings: Experiment) -> int:
    """Return the number of passes over which a random model is probed: the largest `draws` of an attack."""
    return max((attack.draws for attack in settings.attacks.values()), default=1)


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    settings = scope.settings
    normalized, draws = settings.budgets("normalized"), probe_draws(settings)
    return {
        "experiment": cell.experiment,
        "variant": cell.variant,
        "seed": cell.seed,
        "name": cell.name,
        "samples": settings.samples,
        "diagnostics": settings.diagnostics.model_dump(exclude={"enabled"}),
        "budgets": settings.budgets(),
        **({"normalized": normalized} if normalized else {}),
        **({"draws": draws} if draws > 1 else {}),
        **network_slice(model_of(cell), scope, files),
    }


STAGE: Stage = Stage(
    name="diagnose",
    order=40,
    help="Probe trained models for gradient masking.",
    needs="the key `attacks`, and `diagnostics: {enabled: true}`",
    ids=("experiment", "variant", "seed"),
    cells=diagnoses,
    inputs=model_inputs,
    outputs=lambda cell: (paths.probes(cell),),
    slice=_slice,
    modules=lambda cell, scope, files: (
        model_modules(model_of(cell), scope, files) + modules_of([(ATTACKS, Spec("pgd"))])
    ),
    setting_path=network_path,
    uses_model=True,
    group="cells",
    late_imports=("torch.fx.experimental.symbolic_shapes", "scipy.stats"),
)
