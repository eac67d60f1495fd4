"""No folding."""

from __future__ import annotations

from gauntlet.learning.models.foldings.folding import Folding
from gauntlet.registry import FOLDINGS


@FOLDINGS.register("none", source="Goodfellow et al. 2013, arXiv:1302.4389, with one piece")
class NoFolding(Folding):
    """Identity; the width of the layer does not change."""
