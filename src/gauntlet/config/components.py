"""Fields of the configuration that name a component: ``pgd`` or ``{name: pgd, steps: 40}`` becomes a checked Spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gauntlet.config.error_texts import UNKNOWN_KEY, found_text, plain_errors
from gauntlet.core.errors import InputError, nearest
from gauntlet.registry import Entry, Registry, Spec

T = TypeVar("T")

KeyPath = tuple[str | int, ...]
"""Keys and list indices that lead to a value."""

Problem = tuple[KeyPath, str]
"""A key path and what is wrong there."""


def refuse(problems: Iterable[Problem]) -> None:
    """Raise a ValidationError of all problems, below the value being validated; do nothing if there are none."""
    details = [
        InitErrorDetails(
            # The message is a parameter, so that braces in it are kept.
            type=PydanticCustomError("input", "{message}", {"message": message}),
            loc=key_path,
            input=None,
        )
        for key_path, message in problems
    ]
    if details:
        raise ValidationError.from_exception_data("configuration", details)


def validate_at(key: str | int, validate: Callable[[Any], T], value: Any) -> T:
    """Validate a value by hand; its problems are raised below `key`."""
    try:
        return validate(value)
    except ValidationError as error:
        refuse(((key, *key_path), message) for key_path, message in plain_errors(error.errors()))
        raise


def split_component(
    value: Any, registry: Registry, fields: Iterable[str], key: str = "name"
) -> tuple[dict[str, Any], Spec]:
    """Split a mapping into the values of `fields` and the component that `key` names, with all other keys as options.

    Raises pydantic's ValidationError with every problem at its key path: a missing or unknown name, unknown keys with
    the nearest valid one, options of a wrong type or out of range.
    """
    known = list(fields)
    if isinstance(value, str):
        value = {key: value}
    if not isinstance(value, Mapping):
        refuse([((), f"expected a name or a mapping with '{key}', got {found_text(value)}")])
    name = value.get(key)
    if not isinstance(name, str):
        missing = f"'{key}' is missing; {registry.kind}s: {', '.join(registry.names())}"
        refuse(
            [((key,) if key in value else (), f"expected a name, got {found_text(name)}" if key in value else missing)]
        )
    try:
        entry = registry.entry(str(name))
    except InputError as error:
        refuse([((key,), str(error))])
        raise
    own = {field: value[field] for field in known if field in value}
    rest = {field: option for field, option in value.items() if field not in (*known, key)}
    return own, Spec(str(name), check_options(entry, rest, other_keys=[key, *known]))


def check_options(entry: Entry, options: Mapping[Any, Any], other_keys: Iterable[str] = ()) -> dict[str, Any]:
    """Check options against a component's signature and fill in the defaults; suggestions include `other_keys`.

    Options whose default is the component's `OWN` are left out unless they are set.
    """
    names = [option.name for option in entry.options or ()]
    unknown = [] if entry.options is None else [key for key in options if key not in names]
    problems: list[Problem] = []
    for key in unknown:
        suggestion = nearest(str(key), [*names, *other_keys])
        problems.append(((str(key),), f"{UNKNOWN_KEY}; {suggestion} ({entry.name}: {entry.describe_options()})"))
    try:
        complete = entry.complete_options({key: options[key] for key in options if key not in unknown}, mode="python")
    except ValidationError as error:
        problems += plain_errors(error.errors(), options=True)
        refuse(problems)
        raise
    plain: dict[str, Any] = _plain(complete)
    # Pydantic has refused these for options of a known type.
    problems += [
        ((key,), f"expected a finite number, got {found_text(value)}")
        for key, value in plain.items()
        if not _is_finite(value)
    ]
    refuse(problems)
    return plain


def component_validator(registry: Registry) -> Callable[[Any], Spec]:
    """Return the validator of a field that holds one component of a registry and nothing else."""

    def validate(value: Any) -> Spec:
        return value if isinstance(value, Spec) else split_component(value, registry, ())[1]

    return validate


def component_type(registry: Registry) -> Any:
    """Return the type of a field that holds one component of a registry."""
    return Annotated[Spec, PlainValidator(component_validator(registry))]


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, so that a slice is the same whether its value was set or a default."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
