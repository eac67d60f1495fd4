"""Checks of components that do not work together: network, head, loss, training, attack and data set.

They rely on the tags that components are registered with. A tag that a user's own component lacks excludes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from gauntlet.config.budgets import step_size_problem
from gauntlet.config.components import KeyPath, Problem
from gauntlet.config.datasets import Dataset
from gauntlet.config.feasibility import classes_of
from gauntlet.config.variants import Training, Variant
from gauntlet.core.budgets import reaches
from gauntlet.core.errors import nearest
from gauntlet.registry import (
    ADVERSARIES,
    ATTACKS,
    CERTIFICATES,
    FOLDINGS,
    HEADS,
    LOSSES,
    MODELS,
    NEGATIVES,
    SCHEDULES,
    UNITS,
    Spec,
    part_of,
    parts_of,
)

ALWAYS_OFFERED = ("adaptive", "logits")
"""Surrogates that every model has: the view that fits its output, and its own logits."""


def variant_problems(variant: Variant, training: Training) -> Iterator[Problem]:
    """Yield each combination in a variant that cannot work or has no effect, at its key path below the variant."""
    yield from _loss_and_output(variant)
    if variant.is_adopted:
        if variant.training.model_fields_set:
            yield ("training",), "has no effect: the variant has `weights` and is not trained; leave one of them out"
        yield from _unit_and_folding(variant)
        return
    for key in ("adversary", "validation_adversary"):
        yield from _adversary_and_loss(variant, key, getattr(training, key))
    yield from _negatives_and_loss(variant, training)
    yield from _mixing(variant, training)
    yield from _average_of_constraints(variant, training)
    yield from _late_starts(training)
    yield from _unit_and_folding(variant)
    yield from _options_without_effect(training)
    yield from _shared_batches(variant, training)


def _outputs_of(variant: Variant) -> tuple[str, ...]:
    """Return the kinds of raw outputs of a variant's head, or of its network without one; empty if not tagged."""
    head = part_of(variant.model, HEADS)
    entry = HEADS.entry(head.name) if head else MODELS.entry(variant.model.name)
    return tuple(entry.tags.get("outputs", ()))


def _loss_and_output(variant: Variant) -> Iterator[Problem]:
    needed = LOSSES.entry(variant.known_loss.name).tags.get("outputs") if variant.known_loss else None
    outputs = _outputs_of(variant)
    if needed and outputs and not set(needed) & set(outputs):
        problem = f"{variant.loss.name} needs an output of {' or '.join(needed)}"
        yield ("loss",), f"{problem}, this network gives {' and '.join(outputs)}"


def _adversary_and_loss(variant: Variant, key: str, adversary: Spec | None) -> Iterator[Problem]:
    loss = variant.loss
    losses = ADVERSARIES.entry(adversary.name).tags.get("losses") if adversary else None
    if adversary is None or not losses or loss.name in losses or loss.name not in LOSSES.catalog:
        return
    yield (
        ("training", key),
        f"{adversary.name} compares the probabilities of softmax and needs the loss {' or '.join(losses)}, "
        f"this variant's is {loss.name}; pgd takes any loss",
    )


def _negatives_and_loss(variant: Variant, training: Training) -> Iterator[Problem]:
    needed = LOSSES.entry(variant.loss.name).tags.get("outputs")
    if training.negatives and needed and "sigmoid" not in needed:
        yield (
            ("training", "negatives"),
            "a negative is an image of no class, and only a loss of sigmoid outputs has a target for it; "
            f"{variant.loss.name} is a loss of {' or '.join(needed)}",
        )


def _mixing(variant: Variant, training: Training) -> Iterator[Problem]:
    if training.mixing is None:
        return
    name, loss, adversary = training.mixing.name, variant.loss.name, training.adversary
    if loss in LOSSES.catalog and not LOSSES.entry(loss).tags.get("soft"):
        soft = ", ".join(other for other in LOSSES.names() if LOSSES.entry(other).tags.get("soft"))
        problem = f"{name} mixes targets, and {loss} has no loss of a mixed target; losses that have one: {soft}"
        yield ("training", "mixing"), problem
    if adversary and ADVERSARIES.entry(adversary.name).tags.get("mixing") is False:
        problem = f"{adversary.name} weighs images by the probability of their label, and {name} mixes labels"
        yield ("training", "mixing"), f"{problem}; use pgd or trades, or leave mixing out"


def _average_of_constraints(variant: Variant, training: Training) -> Iterator[Problem]:
    name = variant.model.name
    if training.ema and MODELS.entry(name).tags.get("lipschitz"):
        problem = f"the average of weights that {name} constrains need not satisfy the constraint"
        yield ("training", "ema"), f"{problem}; leave ema out for this variant (`ema: null`)"


def _late_starts(training: Training) -> Iterator[Problem]:
    """Yield parts of training that start after the last epoch."""
    parts: list[tuple[KeyPath, Spec]] = [
        (("training", "regularizers", index), spec) for index, spec in enumerate(training.regularizers)
    ]
    parts += [(("training", "negatives"), training.negatives)] if training.negatives else []
    for key_path, spec in parts:
        start = spec.options.get("start_epoch")
        if isinstance(start, int) and start > training.epochs:
            problem = f"{spec.name} begins in epoch {start}, training ends after {training.epochs}"
            yield (*key_path, "start_epoch"), problem
    if training.awp and training.awp.start_epoch > training.epochs:
        problem = f"perturbed weights begin in epoch {training.awp.start_epoch}, training ends after {training.epochs}"
        yield ("training", "awp", "start_epoch"), problem


def _unit_and_folding(variant: Variant) -> Iterator[Problem]:
    unit, folding = (part_of(variant.model, registry) for registry in (UNITS, FOLDINGS))
    if not unit or not folding:
        return
    if UNITS.entry(unit.name).tags.get("closed") and FOLDINGS.entry(folding.name).tags.get("minimum"):
        yield (
            ("model", "folding"),
            f"{folding.name} takes minima: each {unit.name} unit is active inside an ellipsoid of its own, and "
            "the minimum of several only where all of these meet, which may be nowhere; use maxout, or quadratic units",
        )


def _options_without_effect(training: Training) -> Iterator[Problem]:
    """Yield options that training would refuse when it begins, or ignore."""
    options = training.optimizer.options
    if options.get("nesterov") and not options.get("momentum", True):
        yield ("training", "optimizer", "nesterov"), "nesterov needs momentum; set momentum above 0"
    negatives = NEGATIVES.known_options(training.negatives) if training.negatives else {}
    if negatives.get("pixels") is False and not negatives.get("blocks"):
        yield ("training", "negatives"), "there is nothing to scramble; name blocks or set pixels to true"
    milestones = SCHEDULES.known_options(training.schedule).get("milestones", ())
    late = [epoch for epoch in milestones if epoch >= training.epochs]
    if late:
        problem = f"milestone {late[0]} has no effect, training ends after epoch {training.epochs}"
        yield ("training", "schedule", "milestones"), f"{problem}; leave it out, or train longer"


def _shared_batches(variant: Variant, training: Training) -> Iterator[Problem]:
    key_path = ("training", "gpus")
    if training.gpus > 1 and variant.model.options.get("batch_lip_norm"):
        yield (
            key_path,
            "batch_lip_norm computes statistics of a whole batch, and each process sees only its share of the batch; "
            "set gpus to 1 for this variant",
        )
    if training.gpus > training.batch_size:
        yield key_path, f"{training.gpus} processes cannot share {training.batch_size} images; lower gpus"


def losses_of(attack: Spec) -> tuple[str, ...]:
    """Return the losses that an attack ascends: those of its option `loss`, else of its tag; empty if not known."""
    entry = ATTACKS.entry(attack.name)
    own = entry.name in ATTACKS.catalog and any(option.name == "loss" for option in entry.options or ())
    loss = attack.options.get("loss") if own else entry.tags.get("losses", ())
    return (loss,) if isinstance(loss, str) else tuple(loss or ())


def ascends_training_loss(attack: Spec) -> bool:
    """Return whether one of an attack's losses is that with which the attacked network was trained."""
    return "training" in losses_of(attack)


def attack_problems(
    attack: Spec,
    *,
    norm: str,
    epsilons: Sequence[float] | None,
    draws: int,
    surrogate: str | None = None,
    sources: int = 0,
) -> Iterator[Problem]:
    """Yield options of one attack that cannot work, each at its key path below the attack.

    `epsilons` are in pixel units, and None where these are not known. `sources` is the number of variants that a
    transfer attacks as an ensemble.
    """
    if ascends_training_loss(attack):
        excluded = {
            "targets": attack.options.get("targets", 0) > 0,
            "a surrogate": surrogate not in (None, "logits"),
            "draws": draws > 1,
            "several sources": sources > 1,
        }
        for what in (what for what, present in excluded.items() if present):
            problem = f"the training loss cannot be combined with {what}"
            yield ("loss",), f"{problem}; leave it out, or use cross_entropy, margin or dlr"
    tags, options = ATTACKS.entry(attack.name).tags, attack.options
    reach = tags.get("reach")
    if reach and norm == "linf" and epsilons:
        steps, size = (options[name] for name in reach)
        if not reaches(steps, size, epsilons[-1]):
            problem = f"{attack.name} cannot reach {epsilons[-1]:g} in {steps} {reach[0]} of {size:g}"
            remedy = f"raise {reach[0]} or {reach[1]} until their product is the largest budget or more"
            yield (reach[0],), f"{problem}; {remedy}"
    step_size = ATTACKS.known_options(attack).get("step_size")
    if epsilons and (too_long := step_size_problem(step_size, epsilons[-1])):
        yield ("step_size",), too_long
    for name, value in tags.get("random", {}).items():
        if options.get(name) == value and draws == 1:
            problem = f"{name} {value} is for random models, whose noise one pass does not average out"
            yield ("draws",), f"{problem}; set draws to 20, as its source does, or choose another {name}"


def certificate_problems(certificate: Spec) -> Iterator[Problem]:
    """Yield options of one certificate with which it certifies nothing, each at its key path below the certificate."""
    counts = CERTIFICATES.entry(certificate.name).tags.get("counts")
    if counts:
        copies, alpha = (certificate.options[name] for name in counts)
        # When all copies agree, the lower bound of their class's probability is alpha^(1/n); it must be above 1/2.
        least = math.floor(-math.log2(alpha)) + 1
        if copies < least:
            problem = f"{copies} copies can certify nothing at {counts[1]} {alpha:g}, even when all agree"
            yield (counts[0],), f"{problem}; {least} is the least, more give larger radii"


def surrogate_problem(surrogate: str | None, variants: Iterable[Variant]) -> str | None:
    """Return a message if none of the variants that an attack sees offers a surrogate; None where one may."""
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
    """Return a message if an attack has more targets than there are other classes; None if not, or if not known."""
    targets, classes = ATTACKS.known_options(attack).get("targets"), classes_of(dataset)
    options = ATTACKS.entry(attack.name).options or ()
    default = next((option.default for option in options if option.name == "targets"), None)
    if classes is None or not isinstance(targets, int) or targets < classes or targets == default:
        return None
    return f"{targets} of {classes} classes cannot be targets: one is the image's own, which leaves {classes - 1}"


def loss_problem(attack: Spec, dataset: Dataset, seen: Iterable[Variant]) -> str | None:
    """Return a message if an attack's loss does not suit the data set or the variants that it sees; None if it does.

    DLR needs 3 classes, 4 with targets; a training loss must not have a state.
    """
    if ascends_training_loss(attack):
        for variant in seen:
            if variant.known_loss is None:
                return "a variant with `weights` does not name its training loss; set its `loss`, or use cross_entropy"
            if LOSSES.entry(variant.loss.name).tags.get("state"):
                problem = f"{variant.loss.name} has a state that only its training knows"
                return f"{problem}; use cross_entropy, margin or dlr"
    classes, targets = classes_of(dataset), attack.options.get("targets", 0)
    own = attack.name in ATTACKS.catalog and "loss" in attack.options
    least = 4 if targets else 3
    if not own or classes is None or classes >= least or "dlr" not in losses_of(attack):
        return None
    return f"dlr needs {least} classes{' with targets' if targets else ''}, the data set has {classes}; use margin"


def code_problem(variant: Variant, dataset: Dataset) -> str | None:
    """Return a message if a code is too short for the classes of a data set; None if not, or if they are not known."""
    head, classes = part_of(variant.model, HEADS), classes_of(dataset)
    length = HEADS.known_options(head).get("length") if head else None
    if length is None or classes is None or length >= classes:
        return None
    least = 1 << (classes - 1).bit_length()
    return f"a code of {length} bits has no word for each of {classes} classes; {least} is the least"
