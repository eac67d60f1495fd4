"""What of the configuration decides the cells of a model, and which components' code does."""

from __future__ import annotations

from functools import cache
from typing import Any

from gauntlet.config import grid
from gauntlet.config.grid import Cell
from gauntlet.config.schema import Config, Experiment
from gauntlet.registry import (
    ADVERSARIES,
    ATTACKS,
    AUGMENTATIONS,
    CERTIFICATES,
    LOSSES,
    MODELS,
    NEGATIVES,
    OPTIMIZERS,
    REGULARIZERS,
    SCHEDULES,
    Registry,
    Spec,
    parts_of,
)

Slice = tuple[dict[str, Any], list[str]]
"""What of the configuration decides a cell, as plain values, and the modules of the components that it names."""


class Slices:
    """Cuts the slices of one configuration; what many cells share is cut once."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._network = cache(self._network_modules)
        self._attack = cache(lambda experiment, name: config.experiments[experiment].attacks[name].as_dict())

    def of(self, cell: Cell) -> Slice:
        """Cut the slice of a cell that makes a model, or measures one."""
        settings = self._config.experiments[cell.experiment]
        network = self._network(cell.experiment, cell.variant)
        if cell.stage == "train":
            own, components = _training(cell, settings)
            return {**own, "seed": cell.seed}, network + components
        names = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
        if cell.stage == "inspect":
            own, components = _inspection(cell, settings)
            return {**names, **own}, network + components
        own, components = {"certify": _certificate, "diagnose": _diagnostics, "evaluate": self._evaluation}[cell.stage](
            cell, settings
        )
        return {**names, "samples": settings.samples, **own}, network + components

    def _evaluation(self, cell: Cell, settings: Experiment) -> Slice:
        seen = grid.sources(cell, settings)
        modules = [module for model in seen for module in self._network(model.experiment, model.variant)]
        attack = settings.attacks[cell.name].attack
        own = {"examples": settings.examples, "attack": self._attack(cell.experiment, cell.name)}
        return own, modules + modules_of(ATTACKS, attack)

    def _network_modules(self, experiment: str, variant: str) -> list[str]:
        """List the own modules that define a variant's network and its head."""
        model = self._config.experiments[experiment].variants[variant].model
        parts = [module for registry, part in parts_of(model) for module in modules_of(registry, part)]
        return modules_of(MODELS, model) + parts


def _training(cell: Cell, settings: Experiment) -> Slice:
    variant, training = settings.variants[cell.variant], settings.training_of(cell.variant)
    named = [
        (LOSSES, variant.loss),
        (OPTIMIZERS, training.optimizer),
        (SCHEDULES, training.schedule),
        *((REGULARIZERS, spec) for spec in training.regularizers),
        *((AUGMENTATIONS, spec) for spec in training.augmentation),
        (NEGATIVES, training.negatives),
        (ADVERSARIES, training.adversary),
        (ADVERSARIES, training.validation_adversary),
    ]
    components = [module for registry, spec in named if spec for module in modules_of(registry, spec)]
    own = {"model": variant.model.as_dict(), "loss": variant.loss.as_dict(), "training": training.as_dict()}
    return own, components


def _certificate(cell: Cell, settings: Experiment) -> Slice:
    certificate = settings.certificates[cell.name]
    return {"certificate": certificate.as_dict()}, modules_of(CERTIFICATES, certificate.certificate)


def _diagnostics(_cell: Cell, settings: Experiment) -> Slice:
    options = settings.diagnostics.model_dump(exclude={"enabled"})
    normalized = settings.budgets("normalized")
    own = {"diagnostics": options, "budgets": settings.budgets(), **({"normalized": normalized} if normalized else {})}
    return own, modules_of(ATTACKS, Spec("pgd"))


def _inspection(cell: Cell, settings: Experiment) -> Slice:
    training = settings.training_of(cell.variant)
    if training.negatives is None:
        return {}, []
    named = [(NEGATIVES, training.negatives), *((AUGMENTATIONS, spec) for spec in training.augmentation)]
    told = training.as_dict()
    own = {"training": {key: told[key] for key in ("negatives", "augmentation", "batch_size")}}
    return own, [module for registry, spec in named for module in modules_of(registry, spec)]


def modules_of(registry: Registry, spec: Spec) -> list[str]:
    """List the own modules that define a component: its own, and for another library's the adapter's."""
    prefix = spec.name.partition(":")[0]
    if prefix in registry.adapters:
        return [registry.adapters[prefix].module]
    return [registry.entry(spec.name).module]
