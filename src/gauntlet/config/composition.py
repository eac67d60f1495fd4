"""Which parts of a variant go together: network × head × loss × adversary, decided by what each is registered with."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.config.components import Location
from gauntlet.config.variants import Training, Variant
from gauntlet.registry import ADVERSARIES, FOLDINGS, HEADS, LOSSES, MODELS, UNITS


def misfits(variant: Variant, training: Training) -> Iterator[tuple[Location, str]]:
    """Give each thing that makes no sense together, at its place below the variant, with the reason.

    A user's own component is taken at its word: what it is not tagged with is not held against it.
    """
    yield from _loss_and_output(variant)
    yield from _adversary_and_loss(variant, training)
    yield from _unit_and_folding(variant)


def outputs_of(variant: Variant) -> tuple[str, ...]:
    """Give the kinds of a network's raw outputs, those of its head where it has one; empty where nothing is known."""
    head = variant.model.options.get("head")
    entry = HEADS.entry(head["name"]) if head else MODELS.entry(variant.model.name)
    return tuple(entry.tags.get("outputs", ()))


def _loss_and_output(variant: Variant) -> Iterator[tuple[Location, str]]:
    needs = LOSSES.entry(variant.loss.name).tags.get("outputs")
    gives = outputs_of(variant)
    if needs and gives and not set(needs) & set(gives):
        told = f"{variant.loss.name} needs an output of {' or '.join(needs)}, this network gives {' and '.join(gives)}"
        yield ("loss",), told


def _adversary_and_loss(variant: Variant, training: Training) -> Iterator[tuple[Location, str]]:
    adversary, loss = training.adversary, variant.loss
    losses = ADVERSARIES.entry(adversary.name).tags.get("losses") if adversary else None
    if adversary is None or not losses or loss.name in losses or loss.name not in LOSSES.catalogue:
        return
    yield (
        ("training", "adversary"),
        f"{adversary.name} compares the probabilities of softmax and needs the loss {' or '.join(losses)}, "
        f"this variant's is {loss.name}; pgd takes any loss",
    )


def _unit_and_folding(variant: Variant) -> Iterator[tuple[Location, str]]:
    unit, folding = (variant.model.options.get(key) for key in ("unit", "folding"))
    if not unit or not folding:
        return
    if UNITS.entry(unit["name"]).tags.get("closed") and FOLDINGS.entry(folding["name"]).tags.get("minimum"):
        yield (
            ("model", "folding"),
            f"{folding['name']} takes minima: each {unit['name']} unit answers inside an ellipsoid of its own, and the "
            "minimum of several only where all of these meet, which may be nowhere; use maxout, or quadratic units",
        )
