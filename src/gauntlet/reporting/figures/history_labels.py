"""Labels of training histories: loss and validation attack, from the recipe in a history's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import CHOSEN_RECIPE_KEY, RECIPE_KEY
from gauntlet.registry import LOSSES
from gauntlet.reporting.figures.inputs import HistoryFile

Component = Mapping[str, Any] | str
"""A component as recipes hold it: its name, with its options if it has any."""


def labeled_history(variant: str, seed: int, path: Path) -> HistoryFile:
    """Return a history with the labels of its loss and attack; both are empty for a file without a recipe."""
    metadata = read_metadata(path)
    recipe = json.loads(metadata.get(CHOSEN_RECIPE_KEY) or metadata.get(RECIPE_KEY, "{}")).get("slice", {})
    return HistoryFile(variant, seed, path, loss_label(recipe.get("loss", "")), adversary_label(recipe))


def loss_label(loss: Component) -> str:
    """Return the name of a loss with those options that differ from the defaults and so change its values."""
    name, options = _name_and_options(loss)
    try:
        known = LOSSES.entry(name).options if name else None
    except InputError:  # a user's loss whose module is not on the path
        known = None
    defaults = {option.name: option.default for option in known or ()}
    changed = (f"{key} {_short(value)}" for key, value in options.items() if value != defaults.get(key))
    return ", ".join([name, *changed])


def adversary_label(recipe: Mapping[str, Any]) -> str:
    """Return name, norm and budget of the attack under which a training validates; empty if there is none."""
    training = recipe.get("training", {})
    adversary = training.get("validation_adversary") or training.get("adversary")
    if not adversary:
        return ""
    name, options = _name_and_options(adversary)
    return " ".join([name, *(_short(options[key]) for key in ("norm", "epsilon", "sigma") if key in options)])


def _name_and_options(component: Component) -> tuple[str, dict[str, Any]]:
    if isinstance(component, str):
        return component, {}
    options = dict(component)
    return str(options.pop("name")), options


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
