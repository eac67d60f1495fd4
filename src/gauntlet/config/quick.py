"""Quick forms: a second, smaller form of an experiment, written as what differs from the full one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gauntlet.config.components import Problem
from gauntlet.core.errors import nearest

KEY = "quick"


def quick_name(experiment: str) -> str:
    """Return the name of an experiment's quick form."""
    return f"{experiment}_{KEY}"


@dataclass
class Forms:
    """The experiments of a file as plain mappings, each followed by its quick form.

    `full_of` maps the name of each quick form to that of its full form; `problems` are those of the expansion, with key
    paths below `experiments`.
    """

    experiments: dict[Any, Any] = field(default_factory=dict)
    full_of: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def expanded(experiments: Mapping[Any, Any]) -> Forms:
    """Add the quick form `NAME_quick` after each experiment that has the key `quick`; the input is not changed.

    Values that are no mappings are left for the schema to refuse.
    """
    forms = Forms()
    for name, full in experiments.items():
        forms.experiments[name] = full
        changes = full.get(KEY) if isinstance(full, Mapping) else None
        if not isinstance(changes, Mapping):
            continue
        quick = quick_name(str(name))
        key_path = (str(name), KEY)
        if quick in experiments:
            problem = f"the quick form would be called '{quick}', as another experiment is; rename one"
            forms.problems.append((key_path, problem))
            continue
        if KEY in changes:
            forms.problems.append(((*key_path, KEY), "a quick form has no quick form of its own; leave this key out"))
        before, after = ({key: value for key, value in form.items() if key != KEY} for form in (full, changes))
        forms.problems += [((*key_path, *below), problem) for below, problem in _nothing_to_remove(before, after)]
        forms.experiments[quick] = merged(before, after)
        forms.full_of[quick] = str(name)
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


def _nothing_to_remove(full: Mapping[Any, Any], changes: Mapping[Any, Any]) -> Iterator[Problem]:
    """Yield each null for a key that the full form lacks: a misspelled key would silently change nothing."""
    for key, change in changes.items():
        before = full.get(key)
        if change is None and key not in full:
            problem = f"null removes a key, and the full form has no '{key}'"
            yield (str(key),), f"{problem}; {nearest(str(key), map(str, full))}"
        elif isinstance(change, Mapping) and isinstance(before, Mapping):
            yield from (((str(key), *below), problem) for below, problem in _nothing_to_remove(before, change))
