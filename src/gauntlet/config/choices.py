"""The schema of chosen variants: each has the model of one of its candidates, the one that validation prefers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from gauntlet.config.base import Closed, Name, Title
from gauntlet.config.components import Problem, refuse
from gauntlet.config.grids.places import CHOSEN_FROM
from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import nearest
from gauntlet.registry import Spec

Figure = Literal["validation_loss", "validation_accuracy", "robust_validation_accuracy"]
"""A figure of the history by which candidates are compared."""


def _as_list(value: Any) -> Any:
    """Accept one name in place of a list of one."""
    return [value] if isinstance(value, str) else value


class Choice(Closed):
    """A row of the ablation whose model is that of a candidate: other variants, which are trained and not attacked."""

    chosen_from: Annotated[tuple[Name, ...], BeforeValidator(_as_list)] = Field(
        strict=False,
        min_length=1,
        description="names of the candidates: variants that are trained and validated, and not attacked, certified, "
        "diagnosed or inspected",
    )
    by: Figure = Field(
        "validation_loss",
        description="validation figure of the epoch whose weights are kept: the lowest loss or the highest accuracy "
        "wins, the first candidate in the list among equals; `robust_validation_accuracy` needs "
        "`training.validation_adversary` in every candidate",
    )
    over: Literal["each_seed", "all_seeds"] = Field(
        "each_seed",
        description="`each_seed`: every seed has the candidate that is best with this seed; `all_seeds`: all have the "
        "one with the best mean over seeds, which needs the models of all seeds",
    )
    title: Title | None = Field(None, description="name in tables and figures; default: the key")

    @model_validator(mode="before")
    @classmethod
    def _refuse_own_network(cls, value: Any) -> Any:
        """Refuse keys of a variant that is trained: a chosen one has those of its candidates."""
        if isinstance(value, Mapping):
            own = [key for key in value if key in Variant.model_fields and key not in cls.model_fields]
            problem = f"has no effect in a variant with `{CHOSEN_FROM}`: its candidates have"
            refuse(((key,), f"{problem} their own {key}; leave it out") for key in own)
        return value

    @model_validator(mode="after")
    def _check_candidates(self) -> Self:
        seen: set[str] = set()
        problems: list[Problem] = []
        for index, name in enumerate(self.chosen_from):
            if name in seen:
                problems.append(((CHOSEN_FROM, index), f"the candidate '{name}' is given twice"))
            seen.add(name)
        refuse(problems)
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return what decides the choice among given models."""
        return {CHOSEN_FROM: list(self.chosen_from), "by": self.by, "over": self.over}


def _validate_variant(value: Any) -> Variant | Choice:
    """Check a variant: a chosen one if it has the key `chosen_from`."""
    if isinstance(value, Variant | Choice):
        return value
    is_chosen = isinstance(value, Mapping) and CHOSEN_FROM in value
    return (Choice if is_chosen else Variant).model_validate(dict(value) if isinstance(value, Mapping) else value)


AnyVariant = Annotated[Variant | Choice, PlainValidator(_validate_variant)]


def candidates_in(variants: Mapping[Any, Any]) -> set[Any]:
    """Return the names in the lists `chosen_from` of variants as a file has them, which may be of any form."""
    lists = (_as_list(variant.get(CHOSEN_FROM)) for variant in variants.values() if isinstance(variant, Mapping))
    return {name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)}


def choice_problems(
    name: str,
    variants: Mapping[str, Variant | Choice],
    trainings: Mapping[str, Training],
    seeds: Mapping[str, tuple[int, ...]],
) -> Iterator[Problem]:
    """Yield what is wrong with the candidates of the chosen variant `name`, at key paths below the variant.

    `trainings` and `seeds` are those of every variant that is trained or adopted.
    """
    choice = variants[name]
    assert isinstance(choice, Choice)
    known: dict[str, Variant] = {}
    for index, candidate in enumerate(choice.chosen_from):
        variant = variants.get(candidate)
        if variant is None:
            others = [other for other, settings in variants.items() if isinstance(settings, Variant)]
            yield (CHOSEN_FROM, index), f"no variant '{candidate}'; {nearest(candidate, others)}"
        elif isinstance(variant, Choice):
            whose = "the variant itself" if candidate == name else "chosen too, and a choice among choices is not made"
            yield (CHOSEN_FROM, index), f"'{candidate}' is {whose}; name variants that are trained"
        else:
            known[candidate] = variant
    first = next(iter(known), None)
    for candidate in known:
        if first is not None and seeds[candidate] != seeds[first]:
            problem = f"'{candidate}' has models of the seeds {_listed(seeds[candidate])}, '{first}' of"
            yield (CHOSEN_FROM,), f"{problem} {_listed(seeds[first])}; candidates need the same seeds"
            return
    yield from ((("by",), problem) for problem in _incomparable(choice.by, known, trainings))


def _incomparable(by: Figure, candidates: Mapping[str, Variant], trainings: Mapping[str, Training]) -> Iterator[str]:
    """Yield a message if a candidate lacks the figure, or has one that does not compare with that of the first."""
    for name, variant in candidates.items():
        if by != "validation_accuracy" and variant.is_adopted:
            yield f"'{name}' has `weights`, and so only a validation accuracy; set `by: validation_accuracy`"
            return
    if by == "validation_loss":
        losses = {name: variant.loss for name, variant in candidates.items()}
        if differing := _first_difference(losses):
            problem = "values of different losses do not compare, and {} and {} have different ones".format(*differing)
            yield f"{problem}; set `by: validation_accuracy`"
    if by == "robust_validation_accuracy":
        adversaries = {name: trainings[name].validation_adversary for name in candidates}
        without = [name for name, adversary in adversaries.items() if adversary is None]
        if without:
            yield f"the candidate '{without[0]}' has no `training.validation_adversary`; set it for all candidates"
        elif differing := _first_difference(adversaries):
            problem = "accuracies under different attacks do not compare, and {} and {} have".format(*differing)
            yield f"{problem} different `training.validation_adversary`; set one for all candidates"


def _first_difference(components: Mapping[str, Spec | None]) -> tuple[str, str] | None:
    """Return the first name and that of the first component that differs from its; None if all are equal."""
    plain = {name: component.as_dict() if component else None for name, component in components.items()}
    first = next(iter(plain), "")
    return next(((first, name) for name, component in plain.items() if component != plain[first]), None)


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))
