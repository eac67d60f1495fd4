"""Names of classes as labels in figures: one line, no longer than its space, in letters that the font has."""

from __future__ import annotations

from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
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


def variant_label(inputs: FigureInputs, variant: str, *, width_in: float, size_pt: float) -> str:
    """Return the title of a variant, escaped, cut to a width in inches at a font size in points."""
    return plain(shorten(inputs.title(variant), width_in=width_in, size_pt=size_pt))


@cache
def shorten(text: str, *, width_in: float, size_pt: float) -> str:
    """Cut a text to a width in inches at a font size in points; an ellipsis marks the cut."""
    if text_width_in(plain(text), size_pt) <= width_in:
        return text
    # Never measure more letters than can fit: names may have any length.
    kept = text[: int(width_in * 72 / (0.2 * size_pt)) + 1]
    while len(kept) > 1 and text_width_in(plain(f"{kept}…"), size_pt) > width_in:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"


@cache
def text_width_in(text: str, size_pt: float) -> float:
    """Return the width of a line in inches, as matplotlib draws it; text between dollar signs is mathtext."""
    if not text.strip():
        return 0.0
    path = TextPath((0, 0), text[:1000], size=size_pt, prop=FontProperties(family=_FONT))
    return float(path.get_extents().width) / 72


@cache
def _has_letters(text: str) -> bool:
    """Return whether the font has all letters of a text."""
    font = get_font(findfont(FontProperties(family=_FONT)))
    return all(font.get_char_index(ord(letter)) for letter in text)
