"""Warnings about models, from their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Scope
from gauntlet.pipeline.stages.train.declaration import models


def model_warnings(scope: Scope) -> Iterator[str]:
    """Yield a sentence for each warning in the manifest of a model of an experiment, with the variant and the seed."""
    for cell in models(scope):
        try:
            manifest = json.loads(paths.model_manifest(cell).read_bytes())
        except (OSError, ValueError):
            continue  # A model that is missing is named where its cells are.
        for warning in manifest.get("warnings", ()):
            yield f"{cell.variant}, seed {cell.seed}: {warning}."
