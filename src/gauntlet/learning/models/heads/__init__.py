"""Heads: the last layers of a network, from flattened features to outputs; one per file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.heads.dense import BuildActivation, Layer
from gauntlet.learning.models.network import Head
from gauntlet.registry import HEADS


def build_head(
    head: Mapping[str, Any] | None,
    *,
    in_features: int,
    num_classes: int,
    layer: Layer | None = None,
    activation: BuildActivation | None = None,
) -> Head:
    """Build a head from a mapping of `name` and options, by default softmax.

    `layer` builds the dense layers of heads that accept it, in place of plain ones, and `activation` the activation of
    their hidden layers, in place of relu.
    """
    options = dict(head or {"name": "softmax"})
    factory = HEADS.load(str(options.pop("name")))
    accepted = inspect.signature(factory).parameters
    for name, builder in (("layer", layer), ("activation", activation)):
        if builder is not None and name in accepted:
            options[name] = builder
    built: Head = factory(in_features=in_features, num_classes=num_classes, **options)
    return built
