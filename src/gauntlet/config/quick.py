"""Quick forms: a second, smaller form of an experiment, written as what differs from the full one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gauntlet.config.components import Problem
from gauntlet.config.grids import Expansion, expand
from gauntlet.config.grids.expansion import VARIANTS, is_grid
from gauntlet.config.grids.places import CHOSEN_FROM
from gauntlet.core.errors import nearest

KEY = "quick"
PUBLISHED = "published"
"""Key that a quick form does not inherit: published numbers are of the full form."""


_NEEDED = {VARIANTS: ("model", CHOSEN_FROM), "attacks": ("name",), "certificates": ("name",)}
"""Keys of which a new entry of each kind has one; an entry with none of them is a change of one of the full form."""


def quick_name(experiment: str) -> str:
    """Return the name of an experiment's quick form."""
    return f"{experiment}_{KEY}"


@dataclass
class Forms:
    """The experiments of a file as plain mappings without grids, each followed by its quick form.

    `full_of` maps the name of each quick form to that of its full form, `expansions` each name to the expansion of the
    experiment's grids; `problems` are those of both, with key paths below `experiments`.
    """

    experiments: dict[Any, Any] = field(default_factory=dict)
    full_of: dict[str, str] = field(default_factory=dict)
    expansions: dict[str, Expansion] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def expanded(experiments: Mapping[Any, Any]) -> Forms:
    """Expand the grids of each experiment, and add the quick form `NAME_quick` after each that has the key `quick`.

    A quick form may change a grid, by the grid's name, and then the variants that the grid makes. The input is not
    changed. A quick form has no published numbers. Values that are no mappings are left for the schema to refuse.
    """
    forms = Forms()
    for name, full in experiments.items():
        expansion = forms.expansions[str(name)] = expand(full)
        forms.experiments[name] = expansion.experiment
        forms.problems += [((str(name), *below), problem) for below, problem in expansion.problems]
        changes = full.get(KEY) if isinstance(full, Mapping) else None
        # A quick form of grids that are refused would be refused for the same.
        if not isinstance(changes, Mapping) or expansion.problems:
            continue
        quick = quick_name(str(name))
        key_path = (str(name), KEY)
        if quick in experiments:
            problem = f"the quick form would be called '{quick}', as another experiment is; rename one"
            forms.problems.append((key_path, problem))
            continue
        if KEY in changes:
            forms.problems.append(((*key_path, KEY), "a quick form has no quick form of its own; leave this key out"))
        if PUBLISHED in changes:
            problem = "published numbers do not apply to a quick form, which has none; leave this key out"
            forms.problems.append(((*key_path, PUBLISHED), problem))
        own = (KEY, PUBLISHED)
        before, after = ({key: value for key, value in form.items() if key not in own} for form in (full, changes))
        of_grids, of_variants = _split(after)
        changed = expand(merged(before, of_grids))
        known = _with_variants_of(before, expansion, changed)
        mistakes = (*_nothing_to_remove(known, after), *_nothing_to_change(known, after))
        forms.problems += [((*key_path, *below), problem) for below, problem in mistakes]
        forms.problems += [((*key_path, *below), problem) for below, problem in changed.problems]
        changed.experiment = merged(changed.experiment, of_variants)
        _forget_removed(changed)
        forms.experiments[quick], forms.expansions[quick] = changed.experiment, changed
        forms.full_of[quick] = str(name)
    return forms


def _split(changes: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
    """Split changes into those that come before the expansion of grids, and those of variants, which come after."""
    variants = changes.get(VARIANTS)
    if not isinstance(variants, Mapping):
        return changes, {}
    of_grids = {key: value for key, value in variants.items() if is_grid(str(key), value)}
    of_variants = {key: value for key, value in variants.items() if key not in of_grids}
    return {**changes, VARIANTS: of_grids}, {VARIANTS: of_variants}


def _with_variants_of(full: Mapping[Any, Any], *expansions: Expansion) -> Mapping[Any, Any]:
    """Return an experiment with what null may remove: its grids, and the variants that they make in either form."""
    if not isinstance(full.get(VARIANTS), Mapping):
        return full
    known: dict[Any, Any] = {}
    for experiment in (full, *(expansion.experiment for expansion in expansions)):
        known |= _variants_of(experiment)
    return {**full, VARIANTS: known}


def _variants_of(experiment: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the variants of an experiment; none where the value is no mapping, which the schema refuses."""
    variants = experiment.get(VARIANTS)
    return variants if isinstance(variants, Mapping) else {}


def _forget_removed(expansion: Expansion) -> None:
    """Leave the variants out of the grids that changes removed."""
    left = _variants_of(expansion.experiment)
    expansion.grids = [
        replace(grid, variants={name: levels for name, levels in grid.variants.items() if name in left})
        for grid in expansion.grids
    ]


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


def _nothing_to_change(full: Mapping[Any, Any], changes: Mapping[Any, Any]) -> Iterator[Problem]:
    """Yield each change of a variant, an attack or a certificate that the full form lacks: its name is misspelled."""
    for kind, needed in _NEEDED.items():
        entries, known = changes.get(kind), full.get(kind)
        for name, change in entries.items() if isinstance(entries, Mapping) else ():
            is_known = isinstance(known, Mapping) and name in known
            if isinstance(change, Mapping) and not is_known and not set(needed) & set(change):
                remedy = nearest(str(name), map(str, known if isinstance(known, Mapping) else ()))
                new = " or ".join(f"`{key}`" for key in needed)
                yield (kind, str(name)), f"the full form has no '{name}', and a new one needs {new}; {remedy}"
