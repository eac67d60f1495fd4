"""The base of every part of a configuration (closed, frozen, strict), and the types of names and titles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from gauntlet.config.components import split_component
from gauntlet.registry import Registry, Spec

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
"""Name that becomes a folder and part of a job's name."""

Title = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f](.*[^\s\x00-\x1f\x7f])?$", max_length=80)]
"""Name in tables and figures: any text of one line."""

Line = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f](.*[^\s\x00-\x1f\x7f])?$", max_length=300)]
"""Any text of one line, such as the title of a paper."""

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def letters_only(text: str) -> str:
    """Spell a name or a number in letters only, for the name of a LaTeX macro: ``pgd_40`` is ``PgdFourZero``."""
    words = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[int(digit[0])]} ", text.replace(".", " point "))
    words = re.sub(r"(?<= )e-(?= )", "e minus", words)
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z]+", words))


class Closed(BaseModel):
    """A part of the configuration: frozen, strict, and without keys other than its fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def inline_component(registry: Registry, field: str, *, key: str = "name") -> Any:
    """Return a validator that moves a component's name and options, written among a part's own keys, into `field`."""

    def validate(cls: type[Closed], value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get(field), Spec):
            return value
        own_keys = [name for name in cls.model_fields if name != field]
        own, spec = split_component(value, registry, own_keys, key=key)
        return {**own, field: spec}

    return model_validator(mode="before")(classmethod(validate))  # type: ignore[arg-type]
