"""Names of classes as labels in figures: one line, no longer than its space, in letters that the font has."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font

from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.figures.style import plain
from gauntlet.reporting.figures.text_widths import FONT, text_width_in


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


def variant_labels(
    inputs: FigureInputs, variants: Sequence[str], *, width_in: float, size_pt: float, lines: int = 1
) -> list[str]:
    """Return the titles of variants, escaped, in at most so many lines of a width in inches.

    Different variants whose cut titles agree have them without the words that these titles begin with.
    """
    titles = inputs.titles_of(variants)
    labels = [_wrap(title, width_in, size_pt, lines) for title in titles]
    for label in {label for label in labels if labels.count(label) > 1}:
        alike = [number for number, other in enumerate(labels) if other == label]
        words = [titles[number].split() for number in alike]
        common = next(
            (count for count, column in enumerate(zip(*words, strict=False)) if len(set(column)) > 1),
            min(map(len, words)) - 1,
        )
        for number, rest in zip(alike, words, strict=True):
            labels[number] = _wrap(" ".join(["…", *rest[common:]]), width_in, size_pt, lines)
    return [plain(label) for label in labels]


def _wrap(text: str, width_in: float, size_pt: float, lines: int) -> str:
    """Break a text between words into lines of a width, and cut what does not fit."""
    wrapped: list[str] = []
    words = text.split()
    while words and len(wrapped) < lines - 1:
        count = 1
        while count < len(words) and text_width_in(plain(" ".join(words[: count + 1])), size_pt) <= width_in:
            count += 1
        wrapped.append(" ".join(words[:count]))
        words = words[count:]
    rest = [" ".join(words)] if words else []
    return "\n".join(shorten(line, width_in=width_in, size_pt=size_pt) for line in [*wrapped, *rest])


def join_titles(titles: Sequence[str]) -> str:
    """Join titles by a separator that none of them has: a comma, or another one where titles have commas."""
    separators = (", ", "; ", " | ", " / ", " + ")
    return next((one for one in separators if not any(one.strip() in title for title in titles)), " | ").join(titles)


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
def _has_letters(text: str) -> bool:
    """Return whether the font has all letters of a text."""
    font = get_font(findfont(FontProperties(family=FONT)))
    return all(font.get_char_index(ord(letter)) for letter in text)
