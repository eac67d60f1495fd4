"""The cells that an experiment spans: which models are trained, and what each is put through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from gauntlet.config.schema import Experiment

Stage = Literal[
    "prepare", "train", "evaluate", "certify", "diagnose", "inspect", "aggregate", "figure", "table", "report"
]

_NAMED_AFTER = {"prepare": "dataset", "evaluate": "attack", "certify": "certificate", "figure": "name"}


@dataclass(frozen=True, order=True)
class Cell:
    """One unit of work and what it makes: a stored data set, a model, what one attack says of it, and so on.

    `name` is what distinguishes the cells of one stage beyond experiment, variant and seed: the data set, the attack,
    the certificate or the figure. Ids that a stage has no use for are empty.
    """

    stage: Stage
    experiment: str = ""
    variant: str = ""
    seed: int = 0
    name: str = ""

    def __str__(self) -> str:
        parts = [self.stage, self.experiment]
        if self.variant:
            parts += [f"variant={self.variant}", f"seed={self.seed}"]
        if self.stage in _NAMED_AFTER:
            parts += [f"{_NAMED_AFTER[self.stage]}={self.name}"]
        return " ".join(part for part in parts if part)

    @property
    def model(self) -> Cell:
        """The cell that trains the model this one needs."""
        return Cell("train", self.experiment, self.variant, self.seed)


def models(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List the models of an experiment, in the order of the configuration."""
    for variant in experiment.variants:
        for seed in experiment.seeds:
            yield Cell("train", name, variant, seed)


def evaluations(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List every attack on every model that it applies to, in the order of the configuration."""
    for model in models(name, experiment):
        for attack, settings in experiment.attacks.items():
            if settings.applies_to(model.variant, experiment.variants):
                yield Cell("evaluate", name, model.variant, model.seed, attack)


def certificates(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List every certificate of every model that can have it, in the order of the configuration."""
    for model in models(name, experiment):
        for certificate, settings in experiment.certificates.items():
            if settings.applies_to(experiment.variants[model.variant]):
                yield Cell("certify", name, model.variant, model.seed, certificate)


def sources(cell: Cell, experiment: Experiment) -> list[Cell]:
    """List the models that an attack takes its gradients from instead of the one that it attacks: none but transfers.

    They have the same training seed as the attacked one.
    """
    variants = experiment.attacks[cell.name].sources(cell.variant, experiment.variants)
    return [Cell("train", cell.experiment, variant, cell.seed) for variant in variants]


def diagnoses(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List every model that is probed, in the order of the configuration; none where nothing is attacked."""
    if experiment.attacks and experiment.diagnostics.enabled:
        for model in models(name, experiment):
            yield Cell("diagnose", name, model.variant, model.seed)


def inspections(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List the models that figures look into, the first seed of every variant, in the order of the configuration."""
    for variant in experiment.variants:
        yield Cell("inspect", name, variant, experiment.seeds[0])


def cells(name: str, experiment: Experiment) -> Iterator[Cell]:
    """List every cell of an experiment, models first."""
    yield from models(name, experiment)
    yield from evaluations(name, experiment)
    yield from certificates(name, experiment)
    yield from diagnoses(name, experiment)
    yield from inspections(name, experiment)
