"""Which parts of a variant go together: network × head × loss × training, decided by what each is registered with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gauntlet.config.components import Location
from gauntlet.config.datasets import Dataset
from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import nearest
from gauntlet.registry import (
    ADVERSARIES,
    ATTACKS,
    CERTIFICATES,
    FOLDINGS,
    HEADS,
    LOSSES,
    MODELS,
    SOURCES,
    UNITS,
    Entry,
    Spec,
    parts_of,
)

ALWAYS_OFFERED = ("adaptive", "logits")
"""Surrogates that every model has: the view that fits its output, and its own logits."""


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
    if adversary is None or not losses or loss.name in losses or loss.name not in LOSSES.catalog:
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


def attack_problems(
    attack: Spec, *, norm: str, epsilons: Sequence[float] | None, draws: int
) -> Iterator[tuple[Location, str]]:
    """Give what one attack cannot do as it is set, each at its place below the attack."""
    tags, options = ATTACKS.entry(attack.name).tags, attack.options
    walk = tags.get("reach")
    if walk and norm == "linf" and epsilons:
        steps, size = (options[name] for name in walk)
        if steps * size < epsilons[-1]:
            told = f"{attack.name} cannot reach {epsilons[-1]:g} in {steps} {walk[0]} of {size:g}"
            yield (walk[0],), f"{told}; raise {walk[0]} or {walk[1]} until their product is the largest budget or more"
    for name, value in tags.get("random", {}).items():
        if options.get(name) == value and draws == 1:
            told = f"{name} {value} is for models that are random, which one pass does not tell from their noise"
            yield ("draws",), f"{told}; set draws to 20, as its source does, or choose another {name}"


def certificate_problems(certificate: Spec) -> Iterator[tuple[Location, str]]:
    """Give what one certificate cannot do as it is set, each at its place below the certificate."""
    counted = CERTIFICATES.entry(certificate.name).tags.get("counts")
    if counted:
        copies, alpha = (certificate.options[name] for name in counted)
        # When all copies agree their class has a probability of alpha^(1/n) or more, and only above 1/2 does it count.
        least = math.floor(-math.log2(alpha)) + 1
        if copies < least:
            told = f"{copies} copies can certify nothing at {counted[1]} {alpha:g}, even when all agree"
            yield (counted[0],), f"{told}; {least} is the least, the more the larger the radii"


def surrogate_problem(surrogate: str | None, variants: Iterable[Variant]) -> str | None:
    """Say that none of the variants, which are those that an attack sees, offers a surrogate; None where one may."""
    by_variant = [offered_surrogates(variant) for variant in variants]
    if surrogate is None or surrogate in ALWAYS_OFFERED or None in by_variant:
        return None
    offered = list(dict.fromkeys(name for names in by_variant for name in names or ()))
    if surrogate in offered:
        return None
    return f"no variant that it sees offers {surrogate!r}; {nearest(surrogate, [*offered, *ALWAYS_OFFERED])}"


def offered_surrogates(variant: Variant) -> tuple[str, ...] | None:
    """Return the names of the surrogates of a network and its parts; None if a user's own class declares none."""
    entries = [
        MODELS.entry(variant.model.name),
        *(registry.entry(part.name) for registry, part in parts_of(variant.model)),
    ]
    if any(":" in entry.name and "surrogates" not in entry.tags for entry in entries):
        return None
    return tuple(name for entry in entries for name in entry.tags.get("surrogates", ()))


def targets_problem(attack: Spec, dataset: Dataset) -> str | None:
    """Say that an attack is given more targets than there are other classes; None where that is right or not known."""
    targets, classes = attack.options.get("targets"), classes_of(dataset)
    default = next((one.default for one in ATTACKS.entry(attack.name).options or () if one.name == "targets"), None)
    if classes is None or not isinstance(targets, int) or targets < classes or targets == default:
        return None
    return (
        f"{targets} of {classes} classes cannot be targets, since one is the image's own; {classes - 1} are all others"
    )


def code_problem(variant: Variant, dataset: Dataset) -> str | None:
    """Say that a code is too short for the classes of a data set; None where it is not, or they are not known."""
    length = (variant.model.options.get("head") or {}).get("length")
    classes = classes_of(dataset)
    if length is None or classes is None or length >= classes:
        return None
    least = 1 << (classes - 1).bit_length()
    return f"a code of {length} bits has no word for each of {classes} classes; {least} is the least"


def classes_of(dataset: Dataset) -> int | None:
    """Give the number of classes of a data set where its source is registered with it, by name where it has many."""
    known = SOURCES.entry(dataset.source.name).tags.get("classes")
    return known.get(dataset.source.options.get("name")) if isinstance(known, Mapping) else known
