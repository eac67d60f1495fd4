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

    Raises InputErrors with a line for each that cannot be read, or is none, and one where their option is repeated.
    """
    problems = []
    for file in _named_files(arguments):
        try:
            read_yaml(file)
        except InputError as error:
            problems.append(error)
    if sum(argument.partition("=")[0] in _OPTIONS for argument in arguments) > 1:
        remedy = f"name all files after one: {_OPTIONS[0]} a.yaml b.yaml"
        problems.append(InputError("given twice, and Snakemake uses the last", where=_OPTIONS[0], remedy=remedy))
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
    return [Path(text) for _, text, is_config in _parts(arguments) if is_config]


def with_config_files(arguments: Sequence[str], files: Sequence[Path]) -> list[str]:
    """Return Snakemake's arguments with other configuration files, each in place of one of theirs, or of the default.

    Each keeps its place: an option may take all names that follow it, targets too.
    """
    left = list(map(str, files))
    replaced = [prefix + (left.pop(0) if is_config else text) for prefix, text, is_config in _parts(arguments)]
    return [*replaced, *([_OPTIONS[0], *left] if left else [])]


def _parts(arguments: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each argument as a prefix and the rest, and whether the rest is a configuration file."""
    is_file_list = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("-"):
            # After `--configfile=a.yaml` come targets.
            is_file_list = name in _OPTIONS and not equals
            if name in _OPTIONS and equals:
                yield f"{name}=", value, True
            else:
                yield "", argument, False
        else:
            yield "", argument, is_file_list
