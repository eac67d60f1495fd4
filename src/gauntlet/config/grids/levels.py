"""Reading of one level of an axis: its value, and the label and title that it has or that follow from the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gauntlet.config.components import KeyPath, Problem
from gauntlet.config.error_texts import PATTERNS, found_text
from gauntlet.config.grids.axes import Level
from gauntlet.config.grids.places import label_of, scalar_text

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Pattern of the names of variants and axes, and of labels."""

NAME_TEXT = PATTERNS[f"^{NAME.pattern}$"]
"""Description of such a name."""

LEVEL_KEYS: Mapping[str, str] = {
    "value": "any value; it replaces `{axis}` whole, with its type",
    "label": "part of the variant's name; `''` leaves the place out, together with a separator; default: made of a "
    "scalar or a component's name: capitals become small, other characters `-`, in numbers `p` is the point and `m` a "
    "minus (-0.5 is `m0p5`), null is `none`",
    "title": "text in figures and tables; default: the label, or the scalar as written",
}
"""Keys of a level that is no scalar and no component, with their meanings."""

_MAX_TITLE = 80


class Refused(Exception):
    """A value that cannot be read, with its key path."""

    def __init__(self, place: KeyPath, message: str) -> None:
        super().__init__(message)
        self.problem: Problem = (place, message)


def read_level(written: Any, order: int, place: KeyPath, start: KeyPath) -> Level:
    """Read a level: a scalar, a component `{name: ..., ...}`, or `{label: ..., value: ..., title: ...}`.

    `place` is the key path of the list below the grid, `start` that below the axis. Raises Refused.
    """
    place, key_path = (*place, order), (*start, str(order))
    if isinstance(written, list) and written:
        raise Refused(place, "a level that is a list needs a label: {label: ..., value: [...]}")
    if not isinstance(written, Mapping) or ("name" in written and "label" not in written):
        label = _label(None, written, place)
        return Level(label, written, _own_text(written) or label, order, key_path)
    if "label" not in written and "value" not in written:
        raise Refused(place, "a level that is a mapping needs a label: {label: ..., value: {...}}")
    for key in written:
        if key not in LEVEL_KEYS:
            problem = f"unknown key; a level has {', '.join(LEVEL_KEYS)}: write {{label: ..., value: {{...}}}}"
            raise Refused((*place, str(key)), problem)
    if "value" not in written:
        raise Refused(place, "the level has no `value`; write {label: ..., value: ...}")
    value, title = written["value"], written.get("title")
    label = _label(written.get("label"), value, place)
    if title is not None and not _is_title(title):
        problem = f"expected a text of one line with at most {_MAX_TITLE} characters, got {found_text(title)}"
        raise Refused((*place, "title"), problem)
    text = written.get("label") or _own_text(value)
    if not (title or text):
        raise Refused(place, "the level has no text for figures; set its `title`")
    return Level(label, value, title or text, order, (*key_path, "value"), title is not None)


def _label(label: Any, value: Any, place: KeyPath) -> str:
    """Return a label that is set, or the one that follows from the value."""
    if label is not None:
        if not isinstance(label, str) or not (label == "" or NAME.fullmatch(label)):
            raise Refused((*place, "label"), f"expected {NAME_TEXT}, or '' to leave it out, got {found_text(label)}")
        return label
    if isinstance(value, Mapping | list) and not _own_text(value):
        raise Refused(place, "the level has no name of its own and needs a `label`")
    made = label_of(_own_text(value) if isinstance(value, Mapping | list) else value)
    if not NAME.fullmatch(made):
        raise Refused(place, f"no name can be made of {found_text(value)}; write {{label: ..., value: ...}}")
    return made


def _own_text(value: Any) -> str:
    """Return a scalar as text, the name of a component, and `none` for an empty list; empty for any other value."""
    if isinstance(value, Mapping):
        name = value.get("name")
        return name if isinstance(name, str) else ""
    if isinstance(value, list):
        return "" if value else "none"
    return scalar_text(value)


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TITLE and value.isprintable() and value == value.strip()
