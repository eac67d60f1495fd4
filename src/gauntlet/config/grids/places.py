"""Places `{axis}` in names, titles and values: finding them, filling them, and the texts of levels that fill them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gauntlet.config.components import KeyPath
from gauntlet.config.grids.axes import Levels

NAME_SEPARATORS = "[_-]"
TITLE_SEPARATORS = r"[\s,;:·/+_-]+"
"""Separators, as patterns, of which one goes together with a place that is left out."""

CHOSEN_FROM = "chosen_from"
"""Key of a chosen variant: a list of names, whose places are filled with labels as those of a grid's name are."""

CANDIDATES, SPACE = "candidates", "space"
"""Key of a variant that draws candidates, and its key with the parameters, whose places are filled after the axes."""

_PLACE = re.compile(r"\{([A-Za-z0-9_-]+)\}")
_ABSENT: Any = object()

Scalar = str | int | float | bool | None


def places_in(text: str) -> list[str]:
    """List the axes that the places of a text name, in order."""
    return _PLACE.findall(text)


def whole_place(value: Any) -> str | None:
    """Return the axis of a value that is one place and nothing else; None for any other value."""
    match = _PLACE.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else None


def texts_with_places(value: Any, key_path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield each text below a value that has places, with its key path."""
    if isinstance(value, str):
        if _PLACE.search(value):
            yield key_path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_with_places(item, (*key_path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts_with_places(item, (*key_path, index))


def parameters_of(template: Mapping[Any, Any]) -> frozenset[str]:
    """Return the places of a variant that its `candidates` fill, not the axes of a grid."""
    candidates = template.get(CANDIDATES)
    space = candidates.get(SPACE) if isinstance(candidates, Mapping) else None
    return frozenset(map(str, space)) if isinstance(space, Mapping) else frozenset()


def fill(text: str, fillings: Mapping[str, str], separators: str) -> str:
    """Fill the places of a text; a place without a filling, or an empty one, is left out with the separator before it.

    At the start of the text it is the separator after it.
    """
    filled, rest, leads = "", text, False
    while rest:
        match = _PLACE.search(rest)
        literal, rest = (rest[: match.start()], rest[match.end() :]) if match else (rest, "")
        filled += re.sub(f"^{separators}", "", literal, count=1) if leads else literal
        leads = leads and not literal
        if match and (filling := fillings.get(match[1], "")):
            filled, leads = filled + filling, False
        elif match:
            shorter = re.sub(f"{separators}$", "", filled, count=1)
            leads = not shorter
            filled = shorter
    return filled


def substituted(value: Any, levels: Levels, kept: Collection[str] = ()) -> Any:
    """Return a value with its places filled, except for those named in `kept`.

    A text that is one place becomes the level's value, whatever its type. A place in a longer text becomes text. A key
    or list item whose value is the place of an axis that does not exist in the combination is left out.
    """
    if isinstance(value, str):
        if "{" not in value:
            return value
        if (axis := whole_place(value)) is not None and axis not in kept:
            return substituted(levels[axis].value, levels, kept) if axis in levels else _ABSENT
        fillings = {axis: scalar_text(level.value) for axis, level in levels.items()}
        return fill(value, fillings | {name: f"{{{name}}}" for name in kept}, NAME_SEPARATORS)
    if isinstance(value, Mapping):
        filled = ((key, substituted(item, levels, kept)) for key, item in value.items())
        return {key: item for key, item in filled if item is not _ABSENT}
    if isinstance(value, list):
        return [item for item in (substituted(item, levels, kept) for item in value) if item is not _ABSENT]
    return value


def written_path(template: Any, levels: Levels, key_path: KeyPath) -> tuple[str, ...]:
    """Return where, below the grid, the value is written that a variant has at a key path.

    A value that a level filled in is written at the axis.
    """
    node, rest = template, list(map(str, key_path))
    written: tuple[str, ...] = ()
    while True:
        axis = whole_place(node)
        if axis is not None and axis in levels:
            node, written = levels[axis].value, ("axes", axis, *map(str, levels[axis].key_path))
            continue
        items = _items(node, levels)
        if not rest or rest[0] not in items:
            return (*written, *rest)
        key, node = items[rest.pop(0)]
        written = (*written, key)


def _items(node: Any, levels: Levels) -> Mapping[str, tuple[str, Any]]:
    """Map the keys or indices below a filled value to those as written, with what is written there."""
    if isinstance(node, Mapping):
        return {str(key): (str(key), item) for key, item in node.items()}
    if isinstance(node, list):
        present = [(str(index), item) for index, item in enumerate(node) if substituted(item, levels) is not _ABSENT]
        return {str(index): item for index, item in enumerate(present)}
    return {}


def scalar_text(value: Any) -> str:
    """Return a scalar as a configuration file would write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value if isinstance(value, str) else repr(value)


def label_of(value: Scalar) -> str:
    """Return the label of a scalar without one: -0.5 is `m0p5`, 1e-5 is `1em5`, `a.b:C` is `a-b-c`, null is `none`.

    In numbers `p` is the decimal point and `m` a minus. In a text, capitals become small and each run of characters
    that no name has becomes a hyphen; the label is empty if nothing is left.
    """
    if value is None:
        return "none"
    if isinstance(value, str):
        return re.sub(r"[^a-z0-9_-]+", "-", value.lower()).strip("-_")
    text = re.sub(r"\.0$", "", scalar_text(value))
    return re.sub(r"e([+-])0*", r"e\1", text).replace("+", "").replace("-", "m").replace(".", "p")
