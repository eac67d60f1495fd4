"""Quick forms: a second, smaller form of an experiment, written as what differs from the full one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gauntlet.config.components import Location
from gauntlet.core.errors import nearest

KEY = "quick"


def quick_name(experiment: str) -> str:
    """Name the quick form of an experiment."""
    return f"{experiment}_{KEY}"


@dataclass
class Forms:
    """The experiments of a file as plain mappings, each followed by its quick form.

    `full_of` maps the name of each quick form to that of its full form; `problems` are those of the expansion, each
    with its place below `experiments`.
    """

    experiments: dict[Any, Any] = field(default_factory=dict)
    full_of: dict[str, str] = field(default_factory=dict)
    problems: list[tuple[Location, str]] = field(default_factory=list)


def expanded(experiments: Mapping[Any, Any]) -> Forms:
    """Put the quick form `NAME_quick` behind each experiment that has the key `quick`; nothing given is changed.

    What is no mapping is left for the schema to refuse.
    """
    forms = Forms()
    for name, full in experiments.items():
        forms.experiments[name] = full
        changes = full.get(KEY) if isinstance(full, Mapping) else None
        if not isinstance(changes, Mapping):
            continue
        made = quick_name(str(name))
        place = (str(name), KEY)
        if made in experiments:
            problem = f"the quick form would be called '{made}', as another experiment is; rename one"
            forms.problems.append((place, problem))
            continue
        if KEY in changes:
            forms.problems.append(((*place, KEY), "a quick form has no quick form of its own; leave this key out"))
        own, given = ({key: one for key, one in form.items() if key != KEY} for form in (full, changes))
        forms.problems += [((*place, *where), problem) for where, problem in _nothing_to_remove(own, given)]
        forms.experiments[made] = merged(own, given)
        forms.full_of[made] = str(name)
    return forms


def merged(full: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Merge mappings key by key; lists and scalars replace, null removes a key. Order is that of `full`, then new."""
    result = {key: value for key, value in full.items() if key not in changes or changes[key] is not None}
    for key, change in changes.items():
        before = full.get(key)
        if isinstance(change, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, change)
        elif change is not None:
            result[key] = change
    return result


def _nothing_to_remove(full: Mapping[Any, Any], changes: Mapping[Any, Any]) -> Iterator[tuple[Location, str]]:
    """Find each null for a key that the full form does not have: a misspelt one would change nothing, in silence."""
    for key, change in changes.items():
        before = full.get(key)
        if change is None and key not in full:
            yield (
                (str(key),),
                f"null removes a key, and the full form gives no '{key}'; {nearest(str(key), map(str, full))}",
            )
        elif isinstance(change, Mapping) and isinstance(before, Mapping):
            yield from (((str(key), *where), problem) for where, problem in _nothing_to_remove(before, change))
