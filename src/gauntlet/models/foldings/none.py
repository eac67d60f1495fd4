"""No folding."""

from __future__ import annotations

from gauntlet.models.foldings.folding import Folding
from gauntlet.registry import FOLDINGS


@FOLDINGS.register("none")
class NoFolding(Folding):
    """Nothing is folded: the layer as wide as it is."""
