"""Record of a choice in the manifest of a chosen model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.config.schema import Experiment
from gauntlet.config.variants import Variant
from gauntlet.pipeline import paths
from gauntlet.pipeline.manifests import read_manifest
from gauntlet.pipeline.stage import Cell

KEPT_EPOCH = "kept_epoch"
"""Entry of a trained model's metadata: the epoch whose weights it has, counted from 1."""

RECORD = "choice"
"""Key of the record in the manifest."""


def chosen_variant(manifest: Mapping[str, Any]) -> str | None:
    """Return the candidate that a model is, from its manifest; None for a model that was not chosen."""
    record = manifest.get(RECORD)
    chosen = record.get("chosen") if isinstance(record, Mapping) else None
    return chosen if isinstance(chosen, str) else None


def choice_record(model: Cell) -> Mapping[str, Any]:
    """Return the record of the choice of a model; empty if there is none."""
    record = read_manifest(paths.model_manifest(model)).get(RECORD)
    return record if isinstance(record, Mapping) else {}


def network_variant(model: Cell, settings: Experiment) -> str:
    """Return the variant whose network an existing model has: its own, or the chosen candidate.

    Raises KeyError for a chosen model whose manifest cannot be read, which the recipe of a cell on it excludes.
    """
    if model.variant in settings.networks:
        return model.variant
    chosen = chosen_variant(read_manifest(paths.model_manifest(model)))
    if chosen is None:
        raise KeyError(str(model))
    return chosen


def network_of(model: Cell, settings: Experiment) -> Variant:
    """Return the settings of the network that an existing model has. Raises as `network_variant` does."""
    return settings.networks[network_variant(model, settings)]
