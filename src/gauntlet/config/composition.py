"""Which parts of a variant go together: network × head × loss × training, decided by what each is registered with."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.config.components import Location
from gauntlet.config.variants import Training, Variant
from gauntlet.registry import ADVERSARIES, FOLDINGS, HEADS, LOSSES, MODELS, UNITS, Entry, Spec


def misfits(variant: Variant, training: Training) -> Iterator[tuple[Location, str]]:
    """Give each thing that makes no sense together, at its place below the variant, with the reason.

    A user's own component is taken at its word: what it is not tagged with is not held against it.
    """
    yield from _loss_and_output(variant)
    for key in ("adversary", "validation_adversary"):
        yield from _adversary_and_loss(variant, key, getattr(training, key))
    yield from _negatives_and_loss(variant, training)
    yield from _never_begun(training)
    yield from _unit_and_folding(variant)
    yield from _nothing_to_do(training)
    yield from _shared_batches(variant, training)


def outputs_of(variant: Variant) -> tuple[str, ...]:
    """Give the kinds of a network's raw outputs, those of its head where it has one; empty where nothing is known."""
    return tuple(_output(variant).tags.get("outputs", ()))


def views_of(variant: Variant) -> tuple[str, ...]:
    """Give the differentiable views that a network is known to offer beside its logits."""
    return tuple(_output(variant).tags.get("views", ()))


def _output(variant: Variant) -> Entry:
    head = variant.model.options.get("head")
    return HEADS.entry(head["name"]) if head else MODELS.entry(variant.model.name)


def _loss_and_output(variant: Variant) -> Iterator[tuple[Location, str]]:
    needs = LOSSES.entry(variant.loss.name).tags.get("outputs")
    gives = outputs_of(variant)
    if needs and gives and not set(needs) & set(gives):
        told = f"{variant.loss.name} needs an output of {' or '.join(needs)}, this network gives {' and '.join(gives)}"
        yield ("loss",), told


def _adversary_and_loss(variant: Variant, key: str, adversary: Spec | None) -> Iterator[tuple[Location, str]]:
    loss = variant.loss
    losses = ADVERSARIES.entry(adversary.name).tags.get("losses") if adversary else None
    if adversary is None or not losses or loss.name in losses or loss.name not in LOSSES.catalogue:
        return
    yield (
        ("training", key),
        f"{adversary.name} compares the probabilities of softmax and needs the loss {' or '.join(losses)}, "
        f"this variant's is {loss.name}; pgd takes any loss",
    )


def _negatives_and_loss(variant: Variant, training: Training) -> Iterator[tuple[Location, str]]:
    needs = LOSSES.entry(variant.loss.name).tags.get("outputs")
    if training.negatives and needs and "sigmoid" not in needs:
        yield (
            ("training", "negatives"),
            f"a negative is an image of no class, and only a loss of sigmoid outputs has none; {variant.loss.name} is "
            f"one of {' or '.join(needs)}",
        )


def _never_begun(training: Training) -> Iterator[tuple[Location, str]]:
    """Tell what would begin after the last epoch: a variant named after it would be trained without it."""
    later: list[tuple[Location, Spec]] = [
        (("training", "regularizers", number), spec) for number, spec in enumerate(training.regularizers)
    ]
    later += [(("training", "negatives"), training.negatives)] if training.negatives else []
    for place, spec in later:
        start = spec.options.get("start_epoch")
        if isinstance(start, int) and start > training.epochs:
            yield (*place, "start_epoch"), f"{spec.name} begins in epoch {start}, training ends after {training.epochs}"


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


def _nothing_to_do(training: Training) -> Iterator[tuple[Location, str]]:
    """Tell what would be refused when training begins, or would have no effect on it."""
    options = training.optimizer.options
    if options.get("nesterov") and not options.get("momentum"):
        yield ("training", "optimizer", "nesterov"), "nesterov looks ahead along a momentum; set momentum above 0"
    if (drawn := training.negatives) and drawn.options.get("pixels") is False and not drawn.options.get("blocks"):
        yield ("training", "negatives"), "there is nothing to scramble; name blocks or set pixels to true"
    late = [epoch for epoch in training.schedule.options.get("milestones", ()) if epoch >= training.epochs]
    if late:
        told = f"epoch {late[0]} ends no phase, training ends after {training.epochs}"
        yield ("training", "schedule", "milestones"), f"{told}; leave it out, or train longer"


def _shared_batches(variant: Variant, training: Training) -> Iterator[tuple[Location, str]]:
    place = ("training", "gpus")
    if training.gpus > 1 and variant.model.options.get("batch_norm"):
        yield (
            place,
            "batch_norm takes its statistics of a whole batch, and each of several processes sees only its share; set "
            "gpus to 1 for this variant",
        )
    if training.gpus > training.batch_size:
        yield place, f"{training.gpus} processes cannot share {training.batch_size} images; lower gpus"
