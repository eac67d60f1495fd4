"""What could not work, or would say nothing, as it is set: decided by what each component is registered with.

Attacks and certificates refuse the same when they run; here it is told before anything is trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gauntlet.config.components import Location
from gauntlet.config.datasets import Dataset
from gauntlet.config.variants import Variant
from gauntlet.errors import nearest
from gauntlet.registry import ATTACKS, CERTIFICATES, MODELS, SOURCES, Spec, parts_of

ALWAYS_OFFERED = ("adaptive", "logits")
"""Surrogates that every model has: the view that fits its output, and its own logits."""


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
    views = [views_of(variant) for variant in variants]
    if surrogate is None or surrogate in ALWAYS_OFFERED or None in views:
        return None
    offered = list(dict.fromkeys(name for found in views for name in found or ()))
    if surrogate in offered:
        return None
    return f"no variant that it sees offers '{surrogate}'; {nearest(surrogate, [*offered, *ALWAYS_OFFERED])}"


def views_of(variant: Variant) -> tuple[str, ...] | None:
    """Give the names of the views that a network and its parts offer; None where a user's own class does not say."""
    entries = [
        MODELS.entry(variant.model.name),
        *(registry.entry(part.name) for registry, part in parts_of(variant.model)),
    ]
    if any(":" in entry.name and "views" not in entry.tags for entry in entries):
        return None
    return tuple(view for entry in entries for view in entry.tags.get("views", ()))


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
