"""No folding."""

from __future__ import annotations

from gauntlet.learning.models.foldings.folding import Folding
from gauntlet.registry import FOLDINGS


@FOLDINGS.register("none", source="Goodfellow et al. 2013, arXiv:1302.4389, of one piece")
class NoFolding(Folding):
    """Nothing is folded: the layer as wide as it is."""
