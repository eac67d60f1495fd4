"""Configuration files, checked as a whole: every problem at once, each with file, line, column and key path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gauntlet.config.error_texts import UNKNOWN_KEY, found_text, plain_errors
from gauntlet.config.key_places import misplaced_remedy, unknown_key_remedy
from gauntlet.config.schema import Config
from gauntlet.config.sources import Problem, Source
from gauntlet.core.errors import InputErrors


def load(paths: Sequence[Path]) -> Config:
    """Read one or more configuration files as one: all their experiments, and each other key from the file with it.

    Grids are replaced by the variants that they make, and each experiment with the key `quick` is followed by its quick
    form; all are validated like what is written out.

    Raises InputErrors with one line per problem: file, line, column, key path, what was expected, nearest valid name.
    """
    source = Source(paths)
    try:
        config = Config.model_validate(source.content)
    except ValidationError as error:
        problems = list(_problems(error))
    else:
        problems = list(_grid_problems(config, source))
    if problems or source.is_refused:
        raise InputErrors(source.errors(problems))
    return config


def _grid_problems(config: Config, source: Source) -> Iterator[Problem]:
    """Hand each experiment its grids; yield those with too many cells, and mistakes in `show` and `facets`.

    A quick form may lack variants that the full form shows.
    """
    for name, experiment in config.experiments.items():
        experiment.keep_grids(source.grids(name))
        experiment.keep_drawn(source.drawn_settings(name))
        if problem := experiment.size_problem():
            yield ("experiments", name, "variants"), problem
        if not source.is_quick(name):
            if problem := experiment.facets_problem():
                yield ("experiments", name, "facets"), problem
            for key_path, problem in experiment.shown()[1]:
                yield ("experiments", name, "show", *map(str, key_path)), problem


def _problems(error: ValidationError) -> Iterator[Problem]:
    """Yield each problem in plain words, at its key path."""
    refused: list[ErrorDetails] = []
    for details in error.errors():
        key_path = tuple(map(str, details["loc"]))
        if key_path and key_path[-1] == "[key]" and details["type"] == "literal_error":
            yield key_path[:-1], f"unknown key {details['input']!r}; there are {details['ctx']['expected']}"
        elif key_path and key_path[-1] == "[key]" and isinstance(details["input"], int):
            yield key_path[:-1], f"the name {details['input']} is read as a number; put it in quotes"
        elif key_path and key_path[-1] == "[key]":
            yield (
                key_path[:-1],
                f"the name {found_text(details['input'])} is refused: names are folders and job names, so lower-case "
                "letters, digits, '-' and '_' only, beginning with a letter or digit, at most 64",
            )
        elif details["type"] == "extra_forbidden":
            yield key_path, f"{UNKNOWN_KEY}; {unknown_key_remedy(key_path)}"
        else:
            refused.append(details)
    for place, message in plain_errors(refused):
        key_path = tuple(map(str, place))
        # Of a component's options; the list of these is part of the message.
        remedy = misplaced_remedy(key_path) if message.startswith(UNKNOWN_KEY) else None
        yield key_path, f"{message}; {remedy}" if remedy else message
