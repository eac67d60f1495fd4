"""Heads: what follows the flattened features of a network; one a file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.heads.dense import Layer
from gauntlet.learning.models.network import Head
from gauntlet.registry import HEADS


def build_head(
    head: Mapping[str, Any] | None, *, in_features: int, num_classes: int, layer: Layer | None = None
) -> Head:
    """Build a head from its mapping (`name` and options; softmax without one).

    `layer` makes the dense layers of a head that takes it in place of plain ones.
    """
    options = dict(head or {"name": "softmax"})
    factory = HEADS.load(str(options.pop("name")))
    if layer is not None and "layer" in inspect.signature(factory).parameters:
        options["layer"] = layer
    built: Head = factory(in_features=in_features, num_classes=num_classes, **options)
    return built
