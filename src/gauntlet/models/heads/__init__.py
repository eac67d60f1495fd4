"""Heads: what follows the flattened features of a network; one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.models.network import Head
from gauntlet.registry import HEADS


def build_head(head: Mapping[str, Any] | None, *, in_features: int, num_classes: int) -> Head:
    """Build a head from its mapping (`name` and options; softmax without one)."""
    options = dict(head or {"name": "softmax"})
    built: Head = HEADS.load(str(options.pop("name")))(in_features=in_features, num_classes=num_classes, **options)
    return built
