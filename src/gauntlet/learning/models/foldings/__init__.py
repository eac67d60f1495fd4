"""Foldings, one per file: a layer is widened, and groups of its outputs are reduced to one output each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gauntlet.learning.models.foldings.folding import Folding
from gauntlet.registry import FOLDINGS


def build_folding(folding: Mapping[str, Any] | None) -> Folding:
    """Build a folding from a mapping of `name` and options, by default ``none``."""
    options = dict(folding or {"name": "none"})
    built: Folding = FOLDINGS.load(str(options.pop("name")))(**options)
    return built
