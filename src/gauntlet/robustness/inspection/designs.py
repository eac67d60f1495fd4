"""Designs of layers: the unit, folding and activation that a network's options name, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gauntlet.registry import MODELS, PARTS, Spec

DEFAULT = "linear relu"
"""Name of the design of ordinary networks."""

_KEYS = ("unit", "folding", "activation")
_RAMP = ("start", "increment", "stop")


@dataclass(frozen=True)
class Design:
    """Unit, folding and activation of layers, as the arguments of a `LayerFactory`, with ramps at full strength."""

    unit: Mapping[str, Any]
    folding: Mapping[str, Any]
    activation: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the parts with their options, such as "elliptical maxout(4) relog(2)"."""
        parts = (_text(part) for part in (self.unit, self.folding, self.activation) if part["name"] != "none")
        return " ".join(parts)


def design_of(model: Spec) -> Design | None:
    """Return the design of a network's layers; None for a network whose options name no unit, folding or activation."""
    accepted = MODELS.entry(model.name).tags.get("parts", ())
    if not set(_KEYS).issubset(accepted):
        return None
    return Design(**{key: _full_strength(key, model.options.get(key)) for key in _KEYS})


def _full_strength(key: str, part: Any) -> dict[str, Any]:
    """Return a part as a mapping; a ramp begins where it would end."""
    registry, default = PARTS[key]
    mapping = {"name": default} if part is None else {"name": part} if isinstance(part, str) else dict(part)
    options = {option.name: option.default for option in registry.entry(mapping["name"]).options or ()} | mapping
    return options | ({"start": options["stop"]} if set(_RAMP).issubset(options) else {})


def _name_first(option: tuple[str, Any]) -> bool:
    return option[0] != "name"


def _text(part: Mapping[str, Any]) -> str:
    """Return the name of a part with its options, without those of ramps and those that are off."""
    name, *values = (value for key, value in sorted(part.items(), key=_name_first) if key not in _RAMP and value)
    numbers = ", ".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in values)
    return f"{name.rpartition(':')[2]}({numbers})" if numbers else name.rpartition(":")[2]
