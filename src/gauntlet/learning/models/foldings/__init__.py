"""Foldings: a layer is made several times as wide, and groups of its outputs become one; one a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.foldings.folding import Folding
from gauntlet.registry import FOLDINGS


def build_folding(folding: Mapping[str, Any] | None) -> Folding:
    """Build a folding from its mapping (`name` and options; none without one)."""
    options = dict(folding or {"name": "none"})
    built: Folding = FOLDINGS.load(str(options.pop("name")))(**options)
    return built
