"""Configuration files, checked as a whole: every problem at once, each with file, line, column and key path."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gauntlet.config.components import describe
from gauntlet.config.quick import KEY, Forms, expanded
from gauntlet.config.schema import Config
from gauntlet.config.yaml_file import Place, YamlFile, read_yaml
from gauntlet.core.errors import InputError, InputErrors, nearest

Problem = tuple[tuple[str, ...], str]
"""A place in the configuration, and the message."""

# Pydantic adds the alternatives of a type to a place; they are no keys of the file.
_UNION_BRANCH = re.compile(r"(constrained-|function-|literal\[|nullable\[|tuple\[|list\[)")


def load(paths: Sequence[Path]) -> Config:
    """Read one or more configuration files as one: all their experiments, and each other key from the file with it.

    Each experiment with the key `quick` is followed by its quick form, which is validated like any other.

    Raises InputErrors with one line per problem: file, line, column, key path, what was expected, nearest valid name.
    """
    files = [read_yaml(path) for path in paths]
    merged, owners = _merged(files)
    forms = Forms()
    if isinstance(merged.get("experiments"), Mapping):
        forms = expanded(merged["experiments"])
        merged["experiments"] = forms.experiments
    problems = [(("experiments", *map(str, place)), message) for place, message in forms.problems]
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        problems = [*_once(_problems(error), forms.full_of), *problems]
    if problems:
        lines = dict.fromkeys((_where(place, owners, files[0]), message) for place, message in problems)
        raise InputErrors(InputError(message, where=where) for where, message in lines)
    return config


def _merged(files: Sequence[YamlFile]) -> tuple[dict[Any, Any], dict[tuple[str, ...], YamlFile]]:
    """Merge files; also return the file that holds each key, and each experiment. Raises InputError for duplicates."""
    merged: dict[Any, Any] = {}
    owners: dict[tuple[str, ...], YamlFile] = {}

    def put(target: dict[Any, Any], place: tuple[str, ...], key: Any, value: Any, file: YamlFile) -> None:
        if place in owners:
            problem = f"this key is also at {owners[place].where(place)}"
            raise InputError(problem, where=file.where(place), remedy="rename or remove one of them")
        owners[place] = file
        target[key] = value

    for file in files:
        for key, value in file.content.items():
            if key == "experiments" and isinstance(value, Mapping):
                for name, experiment in value.items():
                    put(merged.setdefault(key, {}), (key, str(name)), name, experiment, file)
                merged.setdefault(key, {})
            else:
                put(merged, (str(key),), key, value, file)
    return merged, owners


def _where(place: tuple[str, ...], owners: Mapping[tuple[str, ...], YamlFile], first: YamlFile) -> str:
    file = owners.get(place[:2]) or owners.get(place[:1]) or first
    return file.where(_as_written(place, file))


def _as_written(place: Place, file: YamlFile) -> Place:
    """Replace the attack ``NAME_from_VARIANT`` by NAME where ``transfer_from: *`` has made it."""
    if "attacks" not in place[:-1]:
        return place
    index = place.index("attacks") + 1
    names = file.keys(place[:index])
    name = next((name for name in names if place[index].startswith(f"{name}_from_")), None)
    return place if name is None or place[index] in names else (*place[:index], name, *place[index + 1 :])


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield each problem in plain words, at its place."""
    found: list[dict[str, Any]] = [dict(details) for details in error.errors()]
    # Pydantic also reports a list as too short when one of its items is refused.
    deeper = {details["loc"][:-1] for details in found}
    for details in found:
        if details["type"] == "too_short" and details["loc"] in deeper:
            continue
        place = tuple(str(part) for part in details["loc"] if not _UNION_BRANCH.match(str(part)))
        if place and place[-1] == "[key]" and details["type"] == "literal_error":
            yield place[:-1], f"unknown key {details['input']!r}; there are {details['ctx']['expected']}"
        elif place and place[-1] == "[key]":
            yield (
                place[:-1],
                f"the name {details['input']!r} is refused: names are folders and job names, so lower-case letters,"
                " digits, '-' and '_' only, beginning with a letter or digit, at most 64",
            )
        elif details["type"] == "extra_forbidden":
            yield place, f"unknown key; {nearest(place[-1], _keys_at(place[:-1]))}"
        else:
            yield place, describe(details)


def _once(problems: Iterable[Problem], full_of: Mapping[str, str]) -> Iterator[Problem]:
    """Move a quick form's problems below the key `quick`, without those that its full form has too."""
    found = list(problems)
    for place, message in found:
        _, *names = place or ("",)
        if not names or names[0] not in full_of:
            yield place, message
        elif (("experiments", full_of[names[0]], *names[1:]), message) not in found:
            yield ("experiments", full_of[names[0]], KEY, *names[1:]), message


def _keys_at(place: Place) -> list[str]:
    """List the keys that are valid at a place."""
    model: Any = Config
    for part in place:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        info = model.model_fields.get(part)
        model = _inner(info.annotation) if info else model
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """Return the model that a field holds, directly or as the values of a mapping."""
    arguments = typing.get_args(annotation)
    models = [argument for argument in arguments if isinstance(argument, type) and issubclass(argument, BaseModel)]
    return models[0] if models else annotation
