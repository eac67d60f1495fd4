"""How trainings are named beside their curves: by the configuration, or by what their histories say of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import RECIPE_KEY
from gauntlet.registry import LOSSES
from gauntlet.reporting.figures.inputs import History

Described = Mapping[str, Any] | str
"""A component as slices hold it: its name, with its options if it has any."""


def history_of(variant: str, seed: int, path: Path) -> History:
    """Describe a history by the recipe that it carries; without one, losses and opponents are not told apart."""
    made = json.loads(read_metadata(path).get(RECIPE_KEY, "{}")).get("slice", {})
    return History(variant, seed, path, loss_name(made.get("loss", "")), opponent_name(made.get("training", {})))


def loss_name(loss: Described) -> str:
    """Name a loss with the options that are not its defaults: with others its values do not compare."""
    name, options = _parts(loss)
    try:
        known = LOSSES.entry(name).options if name else None
    except InputError:  # A component of the user's, whose module does not lie here.
        known = None
    defaults = {option.name: option.default for option in known or ()}
    return ", ".join(
        [name, *(f"{key} {_short(value)}" for key, value in options.items() if value != defaults.get(key))]
    )


def opponent_name(training: Mapping[str, Described | None]) -> str:
    """Name what a training's history measures under attack, with norm and budget; empty where it does not."""
    described = training.get("validation_adversary") or training.get("adversary")
    if not described:
        return ""
    name, options = _parts(described)
    told = [options[key] for key in ("norm", "epsilon", "sigma") if key in options]
    return " ".join([name, *map(_short, told)])


def _parts(described: Described) -> tuple[str, dict[str, Any]]:
    if isinstance(described, str):
        return described, {}
    options = dict(described)
    return str(options.pop("name")), options


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
