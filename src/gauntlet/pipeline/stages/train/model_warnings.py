"""Warnings about models, from their manifests."""

from __future__ import annotations

from collections.abc import Iterator

from gauntlet.pipeline import paths
from gauntlet.pipeline.manifests import read_manifest
from gauntlet.pipeline.stage import Scope
from gauntlet.pipeline.stages.train.declaration import measured_models


def model_warnings(scope: Scope) -> Iterator[str]:
    """Yield a sentence for each warning in the manifest of a model of an experiment, with the variant and the seed."""
    for cell in measured_models(scope):
        # A model that is missing is named where its cells are.
        for warning in read_manifest(paths.model_manifest(cell)).get("warnings", ()):
            yield f"{cell.variant}, seed {cell.seed}: {warning}."
