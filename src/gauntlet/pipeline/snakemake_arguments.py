"""Configuration files and profiles among the arguments of Snakemake, checked before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gauntlet.config.yaml_file import read_yaml
from gauntlet.core.errors import InputError, InputErrors
from gauntlet.pipeline.project import our_profiles, profile_path, profiles

_OPTIONS = ("--configfile", "--configfiles")


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the configuration files and profiles among Snakemake's arguments, which it reads before our workflow.

    Raises InputErrors with a line for each that cannot be read, or is none.
    """
    problems = []
    for file in _named_files(arguments):
        try:
            read_yaml(file)
        except InputError as error:
            problems.append(error)
    problems += [_unknown_profile(name) for name in profiles(arguments) if not _is_profile(name)]
    if problems:
        raise InputErrors(problems)


def _is_profile(name: str) -> bool:
    path = profile_path(name)
    if path != name or name == "none" or Path(name).is_file():
        return True
    # Only an option without its value, of which Snakemake's message is a line already.
    if name.startswith("-"):
        return True
    # Snakemake takes a second to load, and knows the folders of the user's and of the system's profiles.
    from snakemake.cli import get_profile_dir

    return bool(name) and get_profile_dir(name) is not None


def _unknown_profile(name: str) -> InputError:
    remedy = f"known: {', '.join(our_profiles())}, and folders with a config.yaml"
    return InputError("there is no such profile", where=f"--profile {name or repr(name)}", remedy=remedy)


def config_files(arguments: Sequence[str]) -> list[Path]:
    """Return the configuration files among Snakemake's arguments, as its own parser would."""
    return _named_files(arguments) or [Path("config.yaml")]


def _named_files(arguments: Sequence[str]) -> list[Path]:
    return [Path(file) for file, is_config in _parts(arguments) if is_config]


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
            is_option = name in _OPTIONS
            # After `--configfile=a.yaml` come targets.
            is_file_list = is_option and not value
            if not is_option:
                yield argument, False
            elif value:
                yield value, True
        else:
            yield argument, is_file_list
