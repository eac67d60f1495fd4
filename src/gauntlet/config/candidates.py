"""Random search: a variant with `candidates` becomes a choice among variants with drawn settings.

Each number is drawn by its address (seed, number of the candidate, parameter): a larger `sample` adds candidates and
changes none, and a further parameter leaves the draws of the others as they are. The variant's name has no part in a
draw, so that the rows of a grid are tuned over the same settings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gauntlet.config.choices import Choice
from gauntlet.config.components import KeyPath, Problem
from gauntlet.config.error_texts import found_text
from gauntlet.config.grids.axes import Level
from gauntlet.config.grids.expansion import VARIANTS
from gauntlet.config.grids.levels import NAME, NAME_TEXT
from gauntlet.config.grids.places import (
    CANDIDATES,
    CHOSEN_FROM,
    SPACE,
    places_in,
    substituted,
    texts_with_places,
    whole_place,
)
from gauntlet.core.addresses import unit_number
from gauntlet.core.errors import nearest, shortened

SAMPLE, SEED = "sample", "seed"
CANDIDATE_KEYS: Mapping[str, str] = {
    SAMPLE: "number of candidates; a larger number keeps those of a smaller one",
    SEED: "seed of the draws; default: 0",
    SPACE: "mapping of parameters to a distribution; a value of the variant that is `{parameter}` is replaced by the "
    "draw, whole and with its type",
}
"""Keys of `candidates`, with their meanings."""

DISTRIBUTIONS: Mapping[str, str] = {
    "log": "`[low, high]`: uniform in the logarithm, with four significant digits",
    "uniform": "`[low, high]`: uniform, with four significant digits",
    "integers": "`[low, high]`: whole numbers, both ends included",
    "choice": "list of values of any type",
}
"""Distributions of a parameter, with their meanings."""

MAX_SAMPLE = 1000
_MOST_REPEATS = 20 * MAX_SAMPLE
"""Number of draws in a row that repeat earlier ones, after which a space is taken to have no further settings."""
_OF_CHOICE = tuple(key for key in Choice.model_fields if key != CHOSEN_FROM)
_MAX_NAME = 64

Settings = Mapping[str, Any]
"""The draw of each parameter."""


@dataclass
class Drawn:
    """An experiment whose random searches are choices among ordinary variants.

    `owners` maps each candidate to the variant that it was drawn for, `settings` to its draws. `problems` are at key
    paths below the experiment.
    """

    experiment: Any
    owners: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def draw_candidates(experiment: Any) -> Drawn:
    """Replace each variant that has `candidates` by its candidates and the choice among them; the input is unchanged.

    A variant with a problem is left out. Values that are no mappings are left for the schema to refuse.
    """
    drawn = Drawn(experiment)
    written = experiment.get(VARIANTS) if isinstance(experiment, Mapping) else None
    if not isinstance(written, Mapping) or not any(map(_has_candidates, written.values())):
        return drawn
    variants: dict[Any, Any] = {}
    for name, variant in written.items():
        if not _has_candidates(variant):
            variants[name] = variant
            continue
        made, settings, problems = _expanded(str(name), variant)
        problems += [
            ((CANDIDATES,), f"a candidate would be called '{candidate}', as another variant is; rename one of them")
            for candidate in settings
            if candidate in written or candidate in drawn.owners
        ]
        drawn.problems += [((VARIANTS, str(name), *place), message) for place, message in problems]
        if not problems:
            variants |= made
            drawn.owners |= dict.fromkeys(settings, str(name))
            drawn.settings |= settings
    drawn.experiment = {**experiment, VARIANTS: variants}
    return drawn


def _has_candidates(variant: Any) -> bool:
    return isinstance(variant, Mapping) and CANDIDATES in variant


def _expanded(name: str, written: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Settings], list[Problem]]:
    """Return a variant's candidates with the choice among them, the settings, and the problems below the variant."""
    candidates = written[CANDIDATES]
    template = {key: value for key, value in written.items() if key not in (CANDIDATES, *_OF_CHOICE)}
    problems = list(_problems(candidates))
    if CHOSEN_FROM in written:
        problems.append(((CHOSEN_FROM,), f"`{CANDIDATES}` draws the candidates; leave one of the two keys out"))
    if not problems:
        candidates = {**candidates, SPACE: {str(key): value for key, value in candidates[SPACE].items()}}
    problems = problems or [*_place_problems(template, candidates[SPACE]), *_size_problems(candidates)]
    if problems:
        return {}, {}, problems
    settings = {f"{name}_{number}": draws for number, draws in _draws(candidates)}
    if len(settings) < candidates[SAMPLE]:
        return {}, {}, [((CANDIDATES, SAMPLE), _few_settings(len(settings), candidates[SAMPLE]))]
    if len(longest := max(settings, key=len)) > _MAX_NAME:
        problem = f"a candidate would be called '{longest}', and names have at most {_MAX_NAME} characters"
        return {}, {}, [((CANDIDATES,), f"{problem}; rename the variant")]
    made = {candidate: _filled(template, draws) for candidate, draws in settings.items()}
    choice = {key: written[key] for key in _OF_CHOICE if key in written}
    return {**made, name: {CHOSEN_FROM: list(settings), **choice}}, settings, []


def _filled(template: Mapping[Any, Any], draws: Settings) -> dict[str, Any]:
    levels = {name: Level(name, value, name, 0) for name, value in draws.items()}
    filled: dict[str, Any] = substituted(template, levels)
    return filled


def _draws(candidates: Mapping[str, Any]) -> Iterator[tuple[int, Settings]]:
    """Yield number and settings of each candidate; a draw that repeats an earlier one is left out.

    A space may have fewer settings than are drawn: numbers between close ends are few after rounding.
    """
    known: set[str] = set()
    latest = 0
    for number in itertools.count(1):
        if len(known) == candidates[SAMPLE] or number - latest > _MOST_REPEATS:
            return
        address = ("candidates", candidates.get(SEED, 0), number)
        draws = {
            name: _value(distribution, unit_number(*address, name)) for name, distribution in candidates[SPACE].items()
        }
        if (text := repr(draws)) not in known:
            known.add(text)
            latest = number
            yield number, draws


def _value(distribution: Mapping[str, Any], unit: float) -> Any:
    """Return the value of a distribution at a number in [0, 1)."""
    kind, values = next(iter(distribution.items()))
    if kind == "choice":
        return values[math.floor(unit * len(values))]
    low, high = values
    if kind == "integers":
        return low + math.floor(unit * (high - low + 1))
    value = low * (high / low) ** unit if kind == "log" else low + (high - low) * unit
    # The last digits of a power differ between machines, and would make a model stale.
    return min(max(float(f"{value:.4g}"), float(low)), float(high))


def _problems(candidates: Any) -> Iterator[Problem]:
    """Yield what is wrong with the form of `candidates`, at key paths below the variant."""
    if not isinstance(candidates, Mapping):
        yield (CANDIDATES,), f"expected a mapping with `{SAMPLE}` and `{SPACE}`, got {found_text(candidates)}"
        return
    for key in candidates:
        if key not in CANDIDATE_KEYS:
            yield (CANDIDATES, str(key)), f"unknown key; {nearest(str(key), CANDIDATE_KEYS)}"
    for key in (SAMPLE, SPACE):
        if key not in candidates:
            yield (CANDIDATES, key), "this key is required"
    for key, least in ((SAMPLE, 1), (SEED, 0)):
        value = candidates.get(key, least)
        if not _is_integer(value) or value < least:
            yield (CANDIDATES, key), f"expected a whole number, {least} or more, got {found_text(value)}"
        elif key == SAMPLE and value > MAX_SAMPLE:
            yield (CANDIDATES, key), f"expected at most {MAX_SAMPLE}, got {value}"
    space = candidates.get(SPACE, {"": None})
    if not isinstance(space, Mapping) or not space:
        yield (CANDIDATES, SPACE), f"expected a mapping of parameters to distributions, got {found_text(space)}"
    elif SPACE in candidates:
        for name, distribution in space.items():
            place = (CANDIDATES, SPACE, str(name))
            if not NAME.fullmatch(str(name)):
                yield place, f"the name of a parameter is {NAME_TEXT}"
            yield from _distribution_problems(distribution, place)


def _distribution_problems(distribution: Any, place: KeyPath) -> Iterator[Problem]:
    kinds = ", ".join(DISTRIBUTIONS)
    if not isinstance(distribution, Mapping) or len(distribution) != 1:
        found = found_text(distribution)
        yield place, f"expected one distribution ({kinds}), such as {{log: [1e-4, 1e-1]}}, got {found}"
        return
    kind, values = next(iter(distribution.items()))
    if kind not in DISTRIBUTIONS:
        yield (*place, str(kind)), f"unknown distribution; {nearest(str(kind), DISTRIBUTIONS)}"
    elif kind == "choice":
        if not isinstance(values, list) or not values:
            yield (*place, kind), f"expected a list of values, got {found_text(values)}"
        for key_path, text in texts_with_places(values if isinstance(values, list) else []):
            yield (*place, kind, *key_path), f"a value of a distribution has no places, got {found_text(text)}"
    else:
        is_number = _is_integer if kind == "integers" else _is_number
        what = "whole numbers" if kind == "integers" else "numbers"
        if not isinstance(values, list) or len(values) != 2 or not all(map(is_number, values)):
            found = f"[{shortened(map(found_text, values))}]" if isinstance(values, list) else found_text(values)
            yield (*place, kind), f"expected two {what}, [low, high], got {found}"
        elif not values[0] < values[1]:
            yield (*place, kind), f"expected low below high, got {values[0]} and {values[1]}"
        elif kind == "log" and values[0] <= 0:
            yield (*place, kind), f"expected low above 0, which has a logarithm, got {values[0]}"


def _place_problems(template: Mapping[Any, Any], space: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield places without a parameter, parameters without a place, and parts of longer texts that are no text."""
    used: set[str] = set()
    for key_path, text in texts_with_places(template):
        for name in places_in(text):
            used.add(name)
            if name not in space:
                yield key_path, f"the place '{{{name}}}' has no parameter in `{CANDIDATES}`; {nearest(name, space)}"
            elif whole_place(text) is None and not _are_scalars(space[name]):
                yield key_path, f"'{{{name}}}' is part of a longer text, and some of its values are no scalars"
    for name in space:
        if name not in used:
            yield (CANDIDATES, SPACE, name), f"the parameter is not used: no value is '{{{name}}}'"


def _size_problems(candidates: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem if a space of finitely many settings has fewer than are drawn."""
    size = 1
    for distribution in candidates[SPACE].values():
        kind, values = next(iter(distribution.items()))
        if kind == "choice":
            size *= len(set(map(repr, values)))
        elif kind == "integers":
            size *= values[1] - values[0] + 1
        else:
            return
    if size < candidates[SAMPLE]:
        yield (CANDIDATES, SAMPLE), _few_settings(size, candidates[SAMPLE])


def _few_settings(size: int, sample: int) -> str:
    return f"the space has {size} settings, fewer than {sample}"


def _are_scalars(distribution: Mapping[str, Any]) -> bool:
    return not any(isinstance(value, Mapping | list) for value in distribution.get("choice", ()))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
