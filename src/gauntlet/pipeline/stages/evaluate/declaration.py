"""Declaration of the stage `evaluate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gauntlet.config.compatibility import ascends_training_loss
from gauntlet.config.schema import Experiment
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, Files, Scope, Slice, Stage
from gauntlet.pipeline.stages.components import (
    NETWORK,
    modules_of,
    network_modules,
    network_path,
    network_slice,
    networks_of,
)
from gauntlet.pipeline.stages.train.declaration import measured_models, model_inputs, model_of
from gauntlet.registry import ATTACKS, LOSSES


def evaluations(scope: Scope) -> Iterator[Cell]:
    """List every attack on every model that it applies to, in the order of the configuration."""
    variants = scope.settings.variants
    for model in measured_models(scope):
        for name, attack in scope.settings.attacks.items():
            if attack.applies_to(model.variant, variants):
                yield Cell(STAGE, scope.name, model.variant, model.seed, name)


def source_models(cell: Cell, settings: Experiment) -> list[Cell]:
    """List the models whose gradients a transfer attack uses in place of the attacked model's; empty for other attacks.

    They have the training seed of the attacked model.
    """
    variants = settings.attacks[cell.name].sources(cell.variant, settings.variants)
    return [model_of(Cell(STAGE, cell.experiment, variant, cell.seed)) for variant in variants]


def _inputs(cell: Cell, scope: Scope) -> dict[Path, Cell]:
    sources = {paths.model_manifest(model): model for model in source_models(cell, scope.settings)}
    return model_inputs(cell, scope) | sources


def _outputs(cell: Cell) -> tuple[Path, ...]:
    samples = paths.cell_file(cell, "evaluations", "samples.parquet")
    return samples, samples.with_name("examples.safetensors")


def _slice(cell: Cell, scope: Scope, files: Files) -> Slice:
    settings = scope.settings
    attack = scope.once(("attack", cell.name), lambda: settings.attacks[cell.name].as_dict())
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    sources = {model.variant: network_slice(model, scope, files) for model in source_models(cell, settings)}
    others = {
        "sources": {variant: network[NETWORK] for variant, network in sources.items() if network},
        "losses": _adopted_losses(cell, scope, files),
    }
    return {
        **ids,
        "samples": settings.samples_of(cell.name),
        "examples": settings.examples,
        "attack": attack,
        **network_slice(model_of(cell), scope, files),
        **{key: value for key, value in others.items() if value},
    }


def _adopted_losses(cell: Cell, scope: Scope, files: Files) -> dict[str, Any]:
    """Return the training losses that an attack ascends and no weights depend on: those stated of adopted networks."""
    if not ascends_training_loss(scope.settings.attacks[cell.name].attack):
        return {}
    seen = [model_of(cell), *source_models(cell, scope.settings)]
    networks = {
        variant: scope.settings.networks[variant] for model in seen for variant in networks_of(model, scope, files)
    }
    return {name: network.loss.as_dict() for name, network in networks.items() if network.is_adopted}


def _modules(cell: Cell, scope: Scope, files: Files) -> list[str]:
    attack = scope.settings.attacks[cell.name].attack
    seen = [model_of(cell), *source_models(cell, scope.settings)]
    networks = [variant for model in seen for variant in networks_of(model, scope, files)]
    losses = [(LOSSES, scope.settings.networks[variant].loss) for variant in networks]
    components = [(ATTACKS, attack), *(losses if ascends_training_loss(attack) else [])]
    return [module for variant in networks for module in network_modules(scope, variant)] + modules_of(components)


def component_path(cell: Cell, path: tuple[str, ...], _settings: Experiment | None) -> tuple[str, ...]:
    """Spell a key of the slice of an attack or a certificate as the path in the configuration."""
    kind, rest = path[0], path[1:]
    if kind != cell.stage.key:
        return network_path(cell, path)
    return (f"{kind}s", cell.name, *(rest[1:] if rest[:1] == (kind,) else rest))


def _setting_path(cell: Cell, path: tuple[str, ...], settings: Experiment | None) -> tuple[str, ...]:
    """Spell a key of the slice of an attack, whose number of samples may be its own or the experiment's."""
    if path == ("samples",) and settings is not None and settings.attacks[cell.name].samples is not None:
        return ("attacks", cell.name, "samples")
    if path[0] == "sources":
        return ("variants", *path[1:])
    if path[0] == "losses":
        return ("variants", path[1], "loss", *path[2:])
    return component_path(cell, path, settings)


STAGE: Stage = Stage(
    name="evaluate",
    order=20,
    help="Run attacks on trained models.",
    needs="the key `attacks`",
    ids=("experiment", "variant", "seed", "attack"),
    cells=evaluations,
    inputs=_inputs,
    outputs=_outputs,
    slice=_slice,
    modules=_modules,
    setting_path=_setting_path,
    uses_model=True,
    resumable=True,
    shardable=True,
    shards=lambda cell, scope: scope.settings.attacks[cell.name].shards,
    group="cells",
    rules=("evaluate", "shard"),
    late_imports=("torch.fx.experimental.symbolic_shapes", "foolbox"),
)
