"""Entries of a checkpoint that may be the weights of a network: mappings from names to tensors, however nested."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

_MAX_DEPTH = 5


class Entry(NamedTuple):
    """Named tensors at one place of a checkpoint; `name` joins the keys that lead there by dots, empty at the top."""

    name: str
    tensors: Mapping[str, Tensor]

    @property
    def is_average(self) -> bool:
        """True if the name says that these are averaged weights."""
        return bool(set(re.split(r"[^a-z]+", self.name.lower())) & {"ema", "swa", "averaged", "average"})


def find_entries(content: Any) -> list[Entry]:
    """List every mapping of a checkpoint that holds tensors by name, outermost first; other values are left out."""
    return list(_walk(content, ()))


def select_entry(content: Any, name: str) -> list[Entry]:
    """Return the entry of a name as a list; the last parts of the name may also begin the names of its tensors.

    ``state_dict.student`` are the tensors at that place of the file, or those of ``state_dict`` whose names begin with
    ``student.``, without this beginning. The list is empty if there are none.
    """
    entries = find_entries(content)
    exact = [entry for entry in entries if entry.name == name]
    if exact:
        return exact
    for entry in reversed(entries):
        above = f"{entry.name}." if entry.name else ""
        if name.startswith(above):
            beginning = f"{name.removeprefix(above)}."
            inside = {
                key.removeprefix(beginning): tensor
                for key, tensor in entry.tensors.items()
                if key.startswith(beginning)
            }
            if inside:
                return [Entry(name, inside)]
    return []


def _walk(content: Any, keys: tuple[str, ...]) -> Iterator[Entry]:
    if not isinstance(content, Mapping):
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value.detach() for key, value in named.items() if isinstance(value, Tensor)}
    if tensors:
        yield Entry(".".join(keys), tensors)
    if len(keys) < _MAX_DEPTH:
        for key, value in named.items():
            yield from _walk(value, (*keys, key))
