"""Reading configuration files: YAML 1.2 scalars, every problem at once, each with its path in the file."""

from __future__ import annotations

import re
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ValidationError

from gauntlet.config.components import describe
from gauntlet.config.quick import KEY, Forms, expanded
from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError, InputErrors, nearest

Problem = tuple[tuple[str, ...], str]
"""A place in the file, and what is wrong there."""

# What pydantic adds to a place for each alternative of a type is no part of the file.
_UNION_BRANCH = re.compile(r"(constrained-|function-|literal\[|nullable\[|tuple\[|list\[)")


class _Loader(yaml.SafeLoader):
    """Plain YAML without tags or duplicate keys; scalars are those of YAML 1.2: `1e-3` is a number, `no` a name."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[Any]]] = {}  # type: ignore[misc]

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.flattened: set[int] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse keys that are given twice; then put what is merged (`<<: *anchor`) behind a mapping's own keys."""
        seen: set[Any] = set()
        # A mapping that others merge comes here again, then with what it merged itself beside its own keys.
        fresh = id(node) not in self.flattened
        self.flattened.add(id(node))
        for key_node, _ in node.value if fresh else ():
            merges = key_node.tag == "tag:yaml.org,2002:merge"
            key = key_node.value if merges else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key in seen:
                raise yaml.MarkedYAMLError(
                    None, None, f"the key {key!r} is given twice or is no name", key_node.start_mark
                )
            seen.add(key)
        super().flatten_mapping(node)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def load(paths: Sequence[Path]) -> Config:
    """Read one or more configuration files as one: experiments are put side by side, `execution` may stand in one.

    Each experiment with the key `quick` is followed by its quick form, which is validated like any other.

    Raises InputErrors with one line per problem: file, path in the file, what was expected, nearest valid name.
    """
    merged: dict[str, Any] = {}
    owner: dict[tuple[str, ...], Path] = {}
    for path in paths:
        for key, value in read_yaml(path).items():
            if key == "experiments" and isinstance(value, Mapping):
                merged.setdefault("experiments", {})
                for name, experiment in value.items():
                    _put(merged["experiments"], owner, (key, str(name)), name, experiment, path)
            else:
                _put(merged, owner, (str(key),), key, value, path)
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
        lines = dict.fromkeys((_where(place, owner, paths[0]), message) for place, message in problems)
        raise InputErrors(InputError(message, where=where) for where, message in lines)
    return config


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds one mapping. Raises InputError that names the file and, where known, the line."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader, without tags
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="name an existing file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8 text", where=str(path)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"is no plain YAML: {getattr(error, 'problem', None) or error}", where=where) from error
    except RecursionError as error:
        raise InputError("is nested too deeply", where=str(path)) from error
    if value is None:
        raise InputError("is empty", where=str(path), remedy="expected a mapping with the key 'experiments'")
    if not isinstance(value, dict):
        remedy = "expected a mapping with the key 'experiments'"
        raise InputError(f"holds a {type(value).__name__}", where=str(path), remedy=remedy)
    return value


def _put(
    target: dict[Any, Any], owner: dict[tuple[str, ...], Path], place: tuple[str, ...], key: Any, value: Any, path: Path
) -> None:
    if place in owner:
        raise InputError(f"'{'.'.join(place)}' stands in {owner[place]} already", where=str(path), remedy="rename one")
    owner[place] = path
    target[key] = value


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Give each problem in plain words, at its place."""
    found: list[dict[str, Any]] = [dict(details) for details in error.errors()]
    # "Too short" is pydantic's echo of an item that was refused for a reason of its own.
    deeper = {details["loc"][:-1] for details in found}
    for details in found:
        if details["type"] == "too_short" and details["loc"] in deeper:
            continue
        place = tuple(str(part) for part in details["loc"] if not _UNION_BRANCH.match(str(part)))
        if place and place[-1] == "[key]" and details["type"] == "literal_error":
            yield place[:-1], f"unknown key '{details['input']}'; there are {details['ctx']['expected']}"
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
    """Place a quick form's problems below the key that makes it, less those that it has from its full form."""
    told = list(problems)
    full = set(told)
    for place, message in told:
        _, *names = place
        if not names or names[0] not in full_of:
            yield place, message
        elif (("experiments", full_of[names[0]], *names[1:]), message) not in full:
            yield ("experiments", full_of[names[0]], KEY, *names[1:]), message


def _where(place: tuple[str, ...], owner: Mapping[tuple[str, ...], Path], first: Path) -> str:
    path = owner.get(place[:2]) or owner.get(place[:1]) or first
    return f"{path}: {'.'.join(place)}" if place else str(path)


def _keys_at(location: Sequence[str]) -> list[str]:
    """List the keys that are valid at a place in the file."""
    model: Any = Config
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            break
        info = model.model_fields.get(part)
        model = _inner(info.annotation) if info else model
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _inner(annotation: Any) -> Any:
    """Find the model that a field holds, directly or as the values of a mapping."""
    arguments = typing.get_args(annotation)
    models = [argument for argument in arguments if isinstance(argument, type) and issubclass(argument, BaseModel)]
    return models[0] if models else annotation
