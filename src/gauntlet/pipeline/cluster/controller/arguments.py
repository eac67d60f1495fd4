"""The configuration files among the arguments of Snakemake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

_OPTIONS = ("--configfile", "--configfiles")


def config_files(arguments: Sequence[str]) -> list[Path]:
    """Return the configuration files among Snakemake's arguments, as its own parser would."""
    return [Path(file) for file, is_config in _parts(arguments) if is_config] or [Path("config.yaml")]


def with_config_files(arguments: Sequence[str], files: Sequence[Path]) -> list[str]:
    """Return Snakemake's arguments with other configuration files in place of theirs."""
    others = [argument for argument, is_config in _parts(arguments) if not is_config]
    # Last, since the option takes all names that follow it, targets too.
    return [*others, _OPTIONS[0], *map(str, files)]


def _parts(arguments: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield each argument and whether it is a configuration file, without the options that name these."""
    is_file_list = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("-"):
            is_file_list = name in _OPTIONS
            if not is_file_list:
                yield argument, False
            elif value:
                yield value, True
        else:
            yield argument, is_file_list
