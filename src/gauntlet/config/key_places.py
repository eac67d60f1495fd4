"""Places of the schema's keys: which are valid at a key path, and where a misplaced one belongs."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gauntlet.config.grids.places import CANDIDATES
from gauntlet.config.grids.reading import OWN_KEYS
from gauntlet.config.schema import Config
from gauntlet.core.errors import closest, nearest
from gauntlet.registry import Spec

Keys = tuple[str, ...]
"""A key path with list indices as text."""

_ANY_NAME = "NAME"
"""Placeholder for the name of an experiment, a variant, an attack or a certificate."""

_VARIANT = ("experiments", _ANY_NAME, "variants", _ANY_NAME)
_MOST_PLACES = 3
_NEARLY_SAME = 0.8
"""Similarity of `seed` and `seeds` (0.89), not of `axes` and `facets` (0.6)."""


def unknown_key_remedy(key_path: Keys) -> str:
    """Return what is right instead of an unknown key: a similar key of its mapping, or the places that have this one.

    Where neither exists, the keys of its mapping are listed.
    """
    key, known = key_path[-1], dict(_keys()).get(_schema_path(key_path[:-1]), ())
    elsewhere = misplaced_remedy(key_path)
    if elsewhere is None:
        return nearest(key, known)
    # A key that exists elsewhere is misspelled only if a key here is nearly the same.
    return f"{nearest(key, known)} {elsewhere}" if closest(key, known, similarity=_NEARLY_SAME) else elsewhere


def misplaced_remedy(key_path: Keys) -> str | None:
    """Return a sentence that names the places with a key of this name, the nearest only; None if there are none."""
    shared = [(_shared(place, key_path), place) for place, keys in _keys().items() if key_path[-1] in keys]
    if not shared:
        return None
    most = max(count for count, _ in shared)
    nearest_places = [place for count, place in shared if count == most][:_MOST_PLACES]
    texts = [f"of `{'.'.join(place)}`" if place else "at the top of the file" for place in nearest_places]
    if len(texts) == 1:
        return f"'{key_path[-1]}' is a key {texts[0]}; move it there"
    return f"'{key_path[-1]}' is a key {', '.join(texts[:-1])} and {texts[-1]}"


def _shared(place: Keys, key_path: Keys) -> int:
    """Count the first parts that a place has in common with a key path."""
    pairs = list(zip(place, key_path, strict=False))
    return next((n for n, (ours, part) in enumerate(pairs) if ours not in (part, _ANY_NAME)), len(pairs))


def _schema_path(key_path: Keys) -> Keys:
    """Replace the names in the path of a mapping by the placeholder; other paths are returned as they are."""
    matches = (place for place in _keys() if len(place) == len(key_path) == _shared(place, key_path))
    return next(matches, key_path)


@cache
def _keys() -> Mapping[Keys, Sequence[str]]:
    """Collect the keys of every mapping of the schema, the outer mappings first.

    Where a mapping may have several forms, the keys of all are valid.
    """
    keys: dict[Keys, dict[str, None]] = {}
    for place, names in sorted(_walk(Config, ()), key=lambda found: len(found[0])):
        keys.setdefault(place, {}).update(dict.fromkeys(names))
    keys[_VARIANT].update(dict.fromkeys((*OWN_KEYS, CANDIDATES)))
    return {place: tuple(names) for place, names in keys.items()}


def _walk(model: type[BaseModel], place: Keys) -> Iterator[tuple[Keys, Sequence[str]]]:
    fields = {name: info for name, info in model.model_fields.items() if not _is_inlined(info)}
    yield place, tuple(fields)
    for name, info in fields.items():
        names = _names(info.annotation)
        for inner in _models(info.annotation):
            yield from _walk(inner, (*place, name, *names))


def _names(annotation: Any) -> Keys:
    """Return a placeholder for each level of names above the values of a mapping."""
    if typing.get_origin(annotation) is not dict:
        return ()
    return (_ANY_NAME, *_names(typing.get_args(annotation)[1]))


def _is_inlined(info: FieldInfo) -> bool:
    """Return whether a field holds a component whose name and options are written among the mapping's own keys."""
    return info.annotation is Spec and not info.metadata


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the parts of the schema that a field may hold, directly or as the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
