"""Widths of lines of text in the font of the figures."""

from __future__ import annotations

import unicodedata
from functools import cache

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

FONT = "DejaVu Sans"


@cache
def text_width_in(text: str, size_pt: float) -> float:
    """Return the width of a line in inches, as matplotlib draws it; text between dollar signs is mathtext."""
    if all(unicodedata.category(letter)[0] in "ZC" for letter in text):  # spaces and controls have no outline
        return 0.0
    path = TextPath((0, 0), text[:1000], size=size_pt, prop=FontProperties(family=FONT))
    # The outline's own points: its curves stay within them, and `get_extents` takes 100 times as long.
    return float(np.ptp(path.vertices[path.codes != Path.CLOSEPOLY, 0])) / 72
