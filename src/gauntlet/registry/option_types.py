"""Types of the options of components, found from the annotations in their source."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic_core import PydanticCustomError

from gauntlet.core.errors import nearest

MAX_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
"""Address of a draw; results hold it as a 64-bit integer."""

Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
AboveOne = Annotated[float, Field(gt=1)]


def _power_of_two(value: int) -> int:
    if value < 2 or value & (value - 1):
        raise PydanticCustomError("power_of_two", "Input should be a power of two, 2 or more")
    return value


PowerOfTwo = Annotated[int, AfterValidator(_power_of_two)]


def _nonzero(value: float) -> float:
    if value == 0:
        raise PydanticCustomError("input", "should not be 0, which changes nothing; choose a number above or below it")
    return value


NonZeroFloat = Annotated[float, AfterValidator(_nonzero)]

ATTACK_LOSSES = ("cross_entropy", "margin", "dlr", "training")
"""Losses that gradient attacks ascend."""


def _attack_losses(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    known = ", ".join(ATTACK_LOSSES)
    if not isinstance(names, list | tuple) or not names:
        problem = f"expected one of {known}, or a list of these, got {value!r:.60}"
        raise PydanticCustomError("input", "{message}", {"message": problem})
    for name in names:
        if name not in ATTACK_LOSSES:
            problem = f"unknown loss {name!r}; {nearest(str(name), ATTACK_LOSSES)}"
            raise PydanticCustomError("input", "{message}", {"message": problem})
    if len(set(names)) < len(names):
        raise PydanticCustomError("input", "a loss is given twice; list each once")
    # A list of one is the loss by name, so that both spellings are the same attack.
    return names[0] if len(names) == 1 else list(names)


AttackLosses = Annotated[str | list[str], BeforeValidator(_attack_losses)]
"""One of ATTACK_LOSSES, or several that are ascended one after the other."""

_TYPES: Mapping[str, Any] = MappingProxyType(
    {
        "int": int,
        "float": float,
        "str": str,
        "bool": bool,
        "None": None,
        "PositiveInt": PositiveInt,
        "NonNegativeInt": NonNegativeInt,
        "PositiveFloat": PositiveFloat,
        "NonNegativeFloat": NonNegativeFloat,
        "Fraction": Fraction,
        "OpenFraction": OpenFraction,
        "AboveOne": AboveOne,
        "PowerOfTwo": PowerOfTwo,
        "NonZeroFloat": NonZeroFloat,
        "AttackLosses": AttackLosses,
    }
)


def type_of(annotation: ast.expr | None) -> Any:
    """Return the type that pydantic validates for an annotation; Any for an annotation that is not known."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name):
            return _TYPES.get(name, Any)
        case ast.Attribute(attr=name):
            return _TYPES.get(name, Any)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[type_of(left), type_of(right)]  # noqa: UP007 - built from values, not written
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return Union[type_of(inner), None]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return Union[tuple(type_of(part) for part in parts)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            return Literal[ast.literal_eval(inner)]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            return list[type_of(inner)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, value])):
            return dict[type_of(key), type_of(value)]  # type: ignore[misc]
        case ast.Subscript(value=ast.Name(id="tuple"), slice=ast.Tuple(elts=parts)):
            items = tuple(... if isinstance(part, ast.Constant) else type_of(part) for part in parts)
            # A configuration file has lists only; the items stay strict.
            return Annotated[tuple[items], Field(strict=False)]  # type: ignore[valid-type]
        case _:
            return Any
