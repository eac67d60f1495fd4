"""Costs that grow with the number of classes, by the tag `per_class` of attacks."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.config.feasibility import classes_of
from gauntlet.config.schema import Experiment
from gauntlet.registry import ATTACKS

MANY_CLASSES = 50
"""Number of classes from which on a cost that is proportional to it is warned of."""
_USUAL = 10
_MANY_TARGETS = 20


def class_costs(experiment: Experiment, classes: int | None = None) -> Iterator[str]:
    """Yield a warning for each attack of an experiment whose cost grows with the classes, with how much it grows.

    `classes` is that of the prepared data; where these are missing, that of the source is used, if it is known. An
    attack's tag `per_class` holds the values of its options with which it works on each class.
    """
    count = classes or classes_of(experiment.dataset)
    for key, attack in experiment.attacks.items():
        options, targets = attack.attack.options, ATTACKS.known_options(attack.attack).get("targets")
        condition = ATTACKS.entry(attack.attack.name).tags.get("per_class")
        setting = "".join(f" with `{name}: {value}`" for name, value in (condition or {}).items())
        if condition is not None and all(options.get(name) == value for name, value in condition.items()):
            if count is not None and count >= MANY_CLASSES:
                times = f"about {round((count - 1) / (_USUAL - 1))} times the cost with {_USUAL}"
                yield f"attacks.{key}: {attack.attack.name}{setting} works on each of {count} classes: {times}"
        elif isinstance(targets, int) and targets > _MANY_TARGETS:
            yield f"attacks.{key}: one search for each of {targets} targets: {targets} times the cost of one"
