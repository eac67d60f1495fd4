"""Entries of a checkpoint that may be the weights of a network: mappings from names to tensors, however nested."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

_MAX_DEPTH = 5


class Entry(NamedTuple):
    """Named tensors at one place of a checkpoint; `name` joins the keys that lead there by dots, empty at the top.

    The keys are those of mappings, and positions in lists.
    """

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
        above = _above(entry)
        part = _part(entry, name.removeprefix(above)) if name.startswith(above) else None
        if part is not None:
            return [part]
    return []


def parts_of(entry: Entry, *, least: int) -> list[Entry]:
    """Return the parts of an entry with a common beginning of names that not all have, of `least` tensors or more.

    Of the beginnings of the same names, the shortest is used.
    """
    counts = Counter({"": len(entry.tensors)})
    for name in entry.tensors:
        keys = name.split(".")[:-1]
        counts.update(".".join(keys[:length]) for length in range(1, len(keys) + 1))
    beginnings = [name for name, count in counts.items() if name and least <= count < counts[name.rpartition(".")[0]]]
    return [part for name in beginnings if (part := _part(entry, name))]


def _above(entry: Entry) -> str:
    return f"{entry.name}." if entry.name else ""


def _part(entry: Entry, beginning: str) -> Entry | None:
    """Return the tensors of an entry whose names have a beginning, without it; None if there are none."""
    start = f"{beginning}."
    inside = {name.removeprefix(start): tensor for name, tensor in entry.tensors.items() if name.startswith(start)}
    return Entry(_above(entry) + beginning, inside) if inside else None


def _walk(content: Any, keys: tuple[str, ...]) -> Iterator[Entry]:
    if isinstance(content, list | tuple):
        content = {str(position): value for position, value in enumerate(content) if not isinstance(value, Tensor)}
    if not isinstance(content, Mapping):
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value.detach() for key, value in named.items() if isinstance(value, Tensor)}
    if tensors:
        yield Entry(".".join(keys), tensors)
    if len(keys) < _MAX_DEPTH:
        for key, value in named.items():
            yield from _walk(value, (*keys, key))
