"""What every part of a configuration is: closed, frozen, strict; and the names in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    model_validator,
)

from gauntlet.config.components import split
from gauntlet.registry import Registry, Spec

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
"""Names become folders and job names; nothing else may stand in one."""

_DIGITS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")

Title = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f\x7f](.*[^\s\x00-\x1f\x7f])?$", max_length=80)]
"""What something is called in print: any text of one line."""


def spelt(part: str) -> str:
    """Spell a name or a number in letters only, as a macro of LaTeX is called: ``pgd_40`` is ``PgdFourZero``."""
    words = re.sub(r"[0-9]", lambda digit: f" {_DIGITS[int(digit[0])]} ", part.replace(".", " point "))
    words = re.sub(r"(?<= )e-(?= )", "e minus", words)
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z]+", words))


class Closed(BaseModel):
    """A part of the configuration: frozen, strict, and with no key that is not written here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def flattened(registry: Registry, into: str, *, key: str = "name") -> Any:
    """Let a part hold a component's options beside its own keys, as a user writes them."""

    def separate(cls: type[Closed], value: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(value.get(into), Spec):
            return value
        own, spec = split(value, registry, [name for name in cls.model_fields if name != into], key=key)
        return {**own, into: spec}

    return model_validator(mode="before")(classmethod(separate))  # type: ignore[arg-type]
