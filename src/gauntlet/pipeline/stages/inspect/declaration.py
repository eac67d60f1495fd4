"""Declaration of the stage `inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gauntlet.config.schema import Experiment
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import model_modules, modules_of, network_path, network_slice, networks_of
from gauntlet.pipeline.stages.train.declaration import model_inputs, model_of, training_path
from gauntlet.registry import AUGMENTATIONS, NEGATIVES, Registry, Spec


def inspections(scope: Scope) -> Iterator[Cell]:
    """List the models that figures look into, the first seed of every variant, in the order of the configuration."""
    for variant in scope.settings.measured:
        yield Cell(STAGE, scope.name, variant, scope.settings.seeds_of(variant)[0])


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    ids: dict[str, Any] = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    ids |= network_slice(model_of(cell), scope, files)
    networks = networks_of(model_of(cell), scope, files)
    training = scope.settings.training_of(networks[0])
    # While none of several candidates is chosen, the cell has no recipe yet.
    if training.negatives is None or len(networks) > 1:
        return ids
    settings = training.as_dict()
    return {**ids, "training": {key: settings[key] for key in ("negatives", "augmentation", "batch_size")}}


def _modules(cell: Cell, scope: Scope, files: Files) -> list[str]:
    model, components = model_of(cell), list[tuple[Registry, Spec | None]]()
    for variant in networks_of(model, scope, files):
        training = scope.settings.training_of(variant)
        augmentation = training.augmentation if training.negatives else ()
        components += [(NEGATIVES, training.negatives), *((AUGMENTATIONS, spec) for spec in augmentation)]
    return model_modules(model, scope, files) + modules_of(components)


def _setting_path(cell: Cell, path: tuple[str, ...], settings: Experiment | None) -> tuple[str, ...]:
    return training_path(cell, path, settings) if path[0] == "training" else network_path(cell, path)


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
    setting_path=_setting_path,
    uses_model=True,
    group="cells",
)
