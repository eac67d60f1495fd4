"""Configuration files, checked as a whole: every problem at once, each with file, line, column and key path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gauntlet.config.error_texts import UNKNOWN_KEY, found_text, plain_errors
from gauntlet.config.key_places import Keys, misplaced_remedy, unknown_key_remedy
from gauntlet.config.quick import KEY, Forms, expanded
from gauntlet.config.schema import Config
from gauntlet.config.yaml_file import YamlFile, read_yaml
from gauntlet.core.errors import InputError, InputErrors

Problem = tuple[Keys, str]
"""A key path and what is wrong there."""


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
    problems = [(("experiments", *map(str, key_path)), message) for key_path, message in forms.problems]
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        problems = [*_once(_problems(error), forms.full_of), *problems]
    if problems:
        lines = dict.fromkeys((_where(key_path, owners, files[0]), message) for key_path, message in problems)
        raise InputErrors(InputError(message, where=where) for where, message in lines)
    return config


def placed(errors: Iterable[InputError], paths: Sequence[Path]) -> Iterator[InputError]:
    """Yield errors whose place is a key path with the file, line and column of that key."""
    files = [read_yaml(path) for path in paths]
    owners = _merged(files)[1]
    for error in errors:
        where = _where(tuple(error.where.split(".")), owners, files[0])
        yield InputError(error.problem, where=where, remedy=error.remedy)


def _merged(files: Sequence[YamlFile]) -> tuple[dict[Any, Any], dict[Keys, YamlFile]]:
    """Merge files; also return the file that holds each key, and each experiment. Raises InputError for duplicates."""
    merged: dict[Any, Any] = {}
    owners: dict[Keys, YamlFile] = {}

    def put(target: dict[Any, Any], key_path: Keys, key: Any, value: Any, file: YamlFile) -> None:
        if key_path in owners:
            problem = f"this key is also at {owners[key_path].where(key_path)}"
            raise InputError(problem, where=file.where(key_path), remedy="rename or remove one of them")
        owners[key_path] = file
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


def _where(key_path: Keys, owners: Mapping[Keys, YamlFile], first: YamlFile) -> str:
    file = owners.get(key_path[:2]) or owners.get(key_path[:1]) or first
    return file.where(_as_written(key_path, file))


def _as_written(key_path: Keys, file: YamlFile) -> Keys:
    """Replace the attack ``NAME_from_VARIANT`` by NAME where ``transfer_from: *`` has made it."""
    if "attacks" not in key_path[:-1]:
        return key_path
    index = key_path.index("attacks") + 1
    names = file.keys(key_path[:index])
    name = next((name for name in names if key_path[index].startswith(f"{name}_from_")), None)
    return key_path if name is None or key_path[index] in names else (*key_path[:index], name, *key_path[index + 1 :])


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield each problem in plain words, at its key path."""
    refused: list[ErrorDetails] = []
    for details in error.errors():
        key_path = tuple(map(str, details["loc"]))
        if key_path and key_path[-1] == "[key]" and details["type"] == "literal_error":
            yield key_path[:-1], f"unknown key {details['input']!r}; there are {details['ctx']['expected']}"
        elif key_path and key_path[-1] == "[key]":
            yield (
                key_path[:-1],
                f"the name {found_text(details['input'])} is refused: names are folders and job names, so lower-case "
                "letters, digits, '-' and '_' only, beginning with a letter or digit, at most 64",
            )
        elif details["type"] == "extra_forbidden":
            yield key_path, f"{UNKNOWN_KEY}; {unknown_key_remedy(key_path)}"
        else:
            refused.append(details)
    for place, message in plain_errors(refused):
        key_path = tuple(map(str, place))
        # Of a component's options; the list of these is part of the message.
        remedy = misplaced_remedy(key_path) if message.startswith(UNKNOWN_KEY) else None
        yield key_path, f"{message}; {remedy}" if remedy else message


def _once(problems: Iterable[Problem], full_of: Mapping[str, str]) -> Iterator[Problem]:
    """Move a quick form's problems below the key `quick`, without those that its full form has too."""
    found = list(problems)
    for key_path, message in found:
        _, *names = key_path or ("",)
        if not names or names[0] not in full_of:
            yield key_path, message
        elif (("experiments", full_of[names[0]], *names[1:]), message) not in found:
            yield ("experiments", full_of[names[0]], KEY, *names[1:]), message
