"""Fields of the configuration that name a component: ``pgd`` or ``{name: pgd, steps: 40}`` becomes a checked Spec."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gauntlet.core.errors import InputError, nearest
from gauntlet.registry import Entry, Registry, Spec

Location = tuple[str | int, ...]


def problem(message: str) -> PydanticCustomError:
    """Make one error whose message is shown as it is, braces included."""
    return PydanticCustomError("input", "{message}", {"message": message})


def refuse(problems: Iterable[tuple[Location, str]]) -> None:
    """Raise all problems, each at its place below the value being validated; do nothing where there is none."""
    details = [InitErrorDetails(type=problem(message), loc=location, input=None) for location, message in problems]
    if details:
        raise ValidationError.from_exception_data("configuration", details)


def under(place: str, validate: Callable[[Any], Spec], value: Any) -> Spec:
    """Validate a part of a mapping by hand, its problems placed below the key `place`."""
    try:
        return validate(value)
    except ValidationError as error:
        refuse(((place, *details["loc"]), describe(dict(details))) for details in error.errors())
        raise


def split(value: Any, registry: Registry, fields: Iterable[str], key: str = "name") -> tuple[dict[str, Any], Spec]:
    """Separate a component's mapping into the harness's own `fields` and the component with its options.

    Raises pydantic's ValidationError with every problem at its place: a missing or unknown name, unknown keys with the
    nearest valid one, options of a wrong type or out of range.
    """
    known = list(fields)
    if isinstance(value, str):
        value = {key: value}
    if not isinstance(value, Mapping):
        refuse([((), f"expected a name or a mapping with '{key}', got {_kind(value)}")])
    name = value.get(key)
    if not isinstance(name, str):
        missing = f"'{key}' is missing; {registry.kind}s: {', '.join(registry.names())}"
        refuse([((key,) if key in value else (), f"expected a name, got {_kind(name)}" if key in value else missing)])
    try:
        entry = registry.entry(str(name))
    except InputError as error:
        refuse([((key,), str(error))])
        raise
    own = {field: value[field] for field in known if field in value}
    rest = {field: option for field, option in value.items() if field not in (*known, key)}
    return own, Spec(str(name), options(entry, rest, also=[key, *known]))


def options(entry: Entry, given: Mapping[Any, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """Check options against a component's signature and fill in the defaults; `also` are keys valid beside them."""
    names = [option.name for option in entry.options or ()]
    unknown = [] if entry.options is None else [key for key in given if key not in names]
    problems: list[tuple[Location, str]] = [
        ((str(key),), f"unknown key; {nearest(str(key), [*names, *also])} ({entry.name}: {entry.describe_options()})")
        for key in unknown
    ]
    try:
        checked = entry.options_model.model_validate({key: given[key] for key in given if key not in unknown})
    except ValidationError as error:
        problems += [(details["loc"], describe(dict(details))) for details in error.errors()]
        refuse(problems)
        raise
    plain: dict[str, Any] = _plain(checked.model_dump())
    # Pydantic has refused these for options of a known type.
    problems += [((key,), "should be a finite number") for key, value in plain.items() if not _is_finite(value)]
    refuse(problems)
    return plain


def component(registry: Registry) -> Callable[[Any], Spec]:
    """Make the validator of a field that holds one component of a registry and nothing else."""

    def validate(value: Any) -> Spec:
        return value if isinstance(value, Spec) else split(value, registry, ())[1]

    return validate


def field(registry: Registry) -> Any:
    """Give the type of a field that holds one component of a registry."""
    return Annotated[Spec, PlainValidator(component(registry))]


def describe(details: Mapping[str, Any]) -> str:
    """Say one pydantic error in plain words: what was expected, and what was found."""
    if details["type"] == "missing":
        return "this key is required"
    if details["type"] == "input":
        return str(details["msg"])
    told = str(details["msg"]).replace("Input should", "should")
    for theirs, ours in _PLAIN_WORDS.items():
        told = told.replace(theirs, ours)
    return f"{told}, got {_kind(details.get('input'))}"


_PLAIN_WORDS = {
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid dictionary": "a mapping",
    "a valid dictionary or instance of": "a mapping for",
    "Tuple should have": "should have",
    "Dictionary should have": "should have",
    " after validation, not 0": "",
}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"{type(value).__name__} {value!r}"


def _is_finite(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list):
        return all(_is_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _plain(value: Any) -> Any:
    """Turn tuples into lists, so that a slice is the same whether its value was given or a default."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
