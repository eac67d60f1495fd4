"""Names of classes as labels in figures: one line, no longer than its space, in letters that the font has."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import plain

_FONT = "DejaVu Sans"


def class_label(inputs: FigureInputs, label: int, *, width_in: float, size_pt: float) -> str:
    """Return the name of a class, escaped, cut to a width in inches at a font size in points.

    Spaces and line breaks in a row become one space. A name with letters that the font lacks, such as Chinese ones,
    becomes "class NUMBER": boxes in place of letters would be the same for every class.
    """
    name = inputs.class_name(label)
    return plain(shorten(name if _has_letters(name) else f"class {label}", width_in=width_in, size_pt=size_pt))


def class_labels(inputs: FigureInputs, labels: Sequence[int], *, width_in: float, size_pt: float) -> list[str]:
    """Return the labels of classes as `class_label` does; different classes whose cut names agree get their numbers."""
    cut = [class_label(inputs, label, width_in=width_in, size_pt=size_pt) for label in labels]
    meant = {name: {label for label, other in zip(labels, cut, strict=True) if other == name} for name in cut}
    return [
        plain(shorten(f"{label}: {inputs.class_name(label)}", width_in=width_in, size_pt=size_pt))
        if len(meant[name]) > 1 and _has_letters(inputs.class_name(label))
        else name
        for label, name in zip(labels, cut, strict=True)
    ]


def variant_label(inputs: FigureInputs, variant: str, *, width_in: float, size_pt: float) -> str:
    """Return the title of a variant, escaped, cut to a width in inches at a font size in points."""
    return plain(shorten(inputs.title(variant), width_in=width_in, size_pt=size_pt))


@cache
def shorten(text: str, *, width_in: float, size_pt: float) -> str:
    """Cut a text to a width in inches at a font size in points; an ellipsis marks the cut."""
    if text_width_in(plain(text), size_pt) <= width_in:
        return text
    # Never measure more letters than can fit: names may have any length.
    longest = min(len(text), int(width_in * 72 / (0.2 * size_pt)) + 1)
    fits = range(2, longest + 1)
    count = 1 + bisect_left(
        fits, True, key=lambda length: text_width_in(plain(f"{text[:length]}…"), size_pt) > width_in
    )
    return f"{text[:count].rstrip()}…"


@cache
def text_width_in(text: str, size_pt: float) -> float:
    """Return the width of a line in inches, as matplotlib draws it; text between dollar signs is mathtext."""
    if all(unicodedata.category(letter)[0] in "ZC" for letter in text):  # spaces and controls have no outline
        return 0.0
    path = TextPath((0, 0), text[:1000], size=size_pt, prop=FontProperties(family=_FONT))
    # The outline's own points: its curves stay within them, and `get_extents` takes 100 times as long.
    return float(np.ptp(path.vertices[path.codes != Path.CLOSEPOLY, 0])) / 72


@cache
def _has_letters(text: str) -> bool:
    """Return whether the font has all letters of a text."""
    font = get_font(findfont(FontProperties(family=_FONT)))
    return all(font.get_char_index(ord(letter)) for letter in text)
