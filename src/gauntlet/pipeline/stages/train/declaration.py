"""Declaration of the stage `train`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gauntlet.config.checkpoint_files import CheckpointFile
from gauntlet.config.schema import Experiment
from gauntlet.core.errors import InputError
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import modules_of, network_modules
from gauntlet.pipeline.stages.prepare.declaration import data_inputs
from gauntlet.registry import (
    ADVERSARIES,
    AUGMENTATIONS,
    LOSSES,
    MIXINGS,
    NEGATIVES,
    OPTIMIZERS,
    REGULARIZERS,
    SCHEDULES,
    Registry,
    Spec,
)

ADOPTION = "gauntlet.pipeline.stages.train.adoption"
"""Module of adopted models."""

CHECKPOINTS = "gauntlet.learning.models.checkpoint.loading"
"""Module of trainings that start from a checkpoint: a change in it makes no other training stale."""


def models(scope: Scope) -> Iterator[Cell]:
    """List the models of an experiment: first those that are trained or adopted, then those that are chosen."""
    return _models_of(scope, [*scope.settings.networks, *scope.settings.choices])


def measured_models(scope: Scope) -> Iterator[Cell]:
    """List the models that are attacked, certified and probed, in the order of the configuration."""
    return _models_of(scope, scope.settings.measured)


def _models_of(scope: Scope, variants: Iterable[str]) -> Iterator[Cell]:
    for variant in variants:
        for seed in scope.settings.seeds_of(variant):
            yield Cell(STAGE, scope.name, variant, seed)


def model_of(cell: Cell) -> Cell:
    """Return the cell that trains the model which a cell attacks, certifies, probes or inspects."""
    return Cell(STAGE, cell.experiment, cell.variant, cell.seed)


def model_inputs(cell: Cell, scope: Scope) -> dict[Path, Cell]:
    """Map the manifests of a cell's data set and of its model to the cells that make them."""
    return {**data_inputs(scope), paths.model_manifest(model_of(cell)): model_of(cell)}


def choice_inputs(cell: Cell, scope: Scope) -> dict[Path, Cell]:
    """Map the files that a chosen model is made from to the cells that make them; empty for any other model.

    These are the manifests of the candidates with its seed, and their histories, over all seeds where these decide.
    """
    choice = scope.settings.choices.get(cell.variant)
    if choice is None:
        return {}
    inputs: dict[Path, Cell] = {}
    for candidate in choice.chosen_from:
        model = Cell(STAGE, cell.experiment, candidate, cell.seed)
        inputs[paths.model_manifest(model)] = model
        for seed in scope.settings.seeds_of(candidate) if choice.over == "all_seeds" else (cell.seed,):
            model = Cell(STAGE, cell.experiment, candidate, seed)
            inputs[paths.history(model)] = model
    return inputs


def _outputs(cell: Cell) -> tuple[Path, ...]:
    return paths.model_weights(cell), paths.model_manifest(cell), paths.history(cell)


def _inputs(cell: Cell, scope: Scope) -> Mapping[Path, Cell]:
    return choice_inputs(cell, scope) if cell.variant in scope.settings.choices else data_inputs(scope)


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    if cell.variant in scope.settings.choices:
        candidates = scope.settings.possible_networks(cell.variant)
        # Networks and losses are copied from the candidates' manifests, whose digests are those of the weights.
        copied = {name: variant.as_dict() for name, variant in candidates.items()}
        return {**scope.settings.choices[cell.variant].as_dict(), "candidates": copied, "seed": cell.seed}
    slice_ = {**scope.once(("training", cell.variant), lambda: _variant(cell, scope, files)), "seed": cell.seed}
    weights = scope.settings.networks[cell.variant].weights
    return slice_ if weights is None else {**slice_, "weights": _checkpoint(weights[cell.seed], files)}


def _variant(cell: Cell, scope: Scope, files: Files) -> dict[str, Any]:
    variant, training = scope.settings.networks[cell.variant], scope.settings.training_of(cell.variant)
    if variant.is_adopted:
        return variant.as_dict()
    initial = training.initial_weights
    added = {"initial_weights": _checkpoint(initial, files)} if initial else {}
    return {**variant.as_dict(), "training": {**training.as_dict(), **added}}


def _checkpoint(file: CheckpointFile, files: Files) -> dict[str, str | None]:
    """Return what decides the weights in a checkpoint: its content, and the place in it if that is named."""
    entry = {"entry": file.entry} if file.entry is not None else {}
    return {"digest": files.content_digest(file.path), **entry}


def missing_weights(scope: Scope) -> Iterator[InputError]:
    """Yield an error for each checkpoint of an experiment that does not exist."""
    for name, variant in scope.settings.networks.items():
        initial = scope.settings.training_of(name).initial_weights
        own = variant.training.model_fields_set
        key = f"variants.{name}.training" if "initial_weights" in own else "training"
        named = [(f"variants.{name}.weights", file) for file in variant.weights or ()]
        named += [(f"{key}.initial_weights", initial)] if initial else []
        for place, file in named:
            if not os.path.isfile(file.path):  # noqa: PTH113 - False, too, without permission
                problem = f"there is no file '{file.file}', or it cannot be read"
                remedy = "set the key to a checkpoint, relative to the folder where the command is run"
                yield InputError(problem, where=f"experiments.{scope.name}.{place}", remedy=remedy)


def _modules(cell: Cell, scope: Scope, _files: Files) -> list[str]:
    if cell.variant in scope.settings.choices:
        # The figures of adopted candidates are metadata, in no digest; they change only with this code.
        networks = scope.settings.possible_networks(cell.variant).values()
        return [ADOPTION] if any(variant.is_adopted for variant in networks) else []
    variant, training = scope.settings.networks[cell.variant], scope.settings.training_of(cell.variant)
    if variant.is_adopted:
        return [*network_modules(scope, cell.variant), *modules_of([(LOSSES, variant.known_loss)])]
    components: list[tuple[Registry, Spec | None]] = [
        (LOSSES, variant.loss),
        (OPTIMIZERS, training.optimizer),
        (SCHEDULES, training.schedule),
        *((REGULARIZERS, spec) for spec in training.regularizers),
        *((AUGMENTATIONS, spec) for spec in training.augmentation),
        (MIXINGS, training.mixing),
        (NEGATIVES, training.negatives),
        (ADVERSARIES, training.adversary),
        (ADVERSARIES, training.validation_adversary),
    ]
    initial = [CHECKPOINTS] if training.initial_weights else []
    return network_modules(scope, cell.variant) + modules_of(components) + initial


def _work(cell: Cell, scope: Scope) -> str:
    """Name the module that makes a model: one that is adopted or chosen does not depend on the code of training."""
    if cell.variant in scope.settings.choices:
        return "choice"
    return "adoption" if scope.settings.networks[cell.variant].is_adopted else "run"


def _processes(cell: Cell, scope: Scope) -> int:
    return 1 if cell.variant in scope.settings.choices else scope.settings.training_of(cell.variant).gpus


def training_path(cell: Cell, path: tuple[str, ...], settings: Experiment | None) -> tuple[str, ...]:
    """Spell a key of a training's slice as the path in the configuration: the variant's own key, or all variants'."""
    variant = settings.networks.get(cell.variant) if settings else None
    if path[0] in ("chosen_from", "by", "over"):
        return ("variants", cell.variant, *path)
    if path[0] == "candidates":
        return ("variants", *path[1:])
    if path[0] == "training":
        is_own = variant is not None and len(path) > 1 and path[1] in variant.training.model_fields_set
        return ("variants", cell.variant, *path) if is_own else path
    return ("variants", cell.variant, *path) if path[0] in ("model", "loss", "normalize", "weights") else path


def _unmatched(cell: Cell, staleness: Any) -> list[Path]:
    """List the manifest if it does not belong to the weights, whose metadata hold the manifest's digest."""
    manifest = paths.model_manifest(cell)
    digest = staleness.marks(paths.model_weights(cell)).content
    return [] if digest in (None, staleness.digest(manifest)) else [manifest]


STAGE: Stage = Stage(
    name="train",
    order=10,
    help="Train models, or adopt those that have `weights`.",
    ids=("experiment", "variant", "seed"),
    cells=models,
    inputs=_inputs,
    outputs=_outputs,
    slice=_slice,
    modules=_modules,
    work=_work,
    setting_path=training_path,
    unmatched=_unmatched,
    uses_model=True,
    resumable=True,
    is_light=lambda cell, scope: cell.variant in scope.settings.choices,
    processes=_processes,
    group="trainings",
    late_imports=("torch._dynamo",),
)
