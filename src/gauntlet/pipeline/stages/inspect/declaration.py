"""Declaration of the stage `inspect`."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import modules_of, network_modules
from gauntlet.pipeline.stages.train.declaration import model_inputs, training_path
from gauntlet.registry import AUGMENTATIONS, NEGATIVES


def inspections(scope: Scope) -> Iterator[Cell]:
    """List the models that figures look into, the first seed of every variant, in the order of the configuration."""
    for variant in scope.settings.variants:
        yield Cell(STAGE, scope.name, variant, scope.settings.seeds_of(variant)[0])


def _slice(cell: Cell, scope: Scope, _files: Files) -> Slice:
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    training = scope.settings.training_of(cell.variant)
    if training.negatives is None:
        return ids
    settings = training.as_dict()
    return {**ids, "training": {key: settings[key] for key in ("negatives", "augmentation", "batch_size")}}


def _modules(cell: Cell, scope: Scope) -> list[str]:
    training = scope.settings.training_of(cell.variant)
    augmentation = training.augmentation if training.negatives else ()
    components = [(NEGATIVES, training.negatives), *((AUGMENTATIONS, spec) for spec in augmentation)]
    return network_modules(scope, cell.variant) + modules_of(components)


STAGE: Stage = Stage(
    name="inspect",
    order=50,
    help="Look into trained models for figures: activations, filters, images that excite units.",
    ids=("experiment", "variant", "seed"),
    cells=inspections,
    inputs=model_inputs,
    outputs=lambda cell: (paths.inspection(cell),),
    slice=_slice,
    modules=_modules,
    setting_path=training_path,
    uses_model=True,
    group="cells",
)
