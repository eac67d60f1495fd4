"""Gauntlet in any folder: a configuration to begin with, and Snakemake with the workflow of this package."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gauntlet.core.errors import InputError
from gauntlet.core.files import write_bytes

PACKAGED = "checkout"
"""The folder of a packaged copy of the checkout's files, next to this module."""

_COPY = Path(__file__).with_name(PACKAGED)

CHECKOUT = _COPY if _COPY.is_dir() else Path(__file__).parents[3]
"""The folder of workflow, rules, profiles and default configuration: the checkout itself, or the copy in a wheel."""

CHECKOUT_FILES = ("config.yaml", "workflow", "rules", "profiles", "envs")
"""The files and folders of the checkout that a packaged copy has."""

SNAKEFILE = CHECKOUT / "workflow" / "Snakefile"

PROFILE = "--profile"


def begin(folder: Path) -> Path:
    """Write the default configuration into a folder, which is made if it is missing; return the file.

    Raises InputError if the folder has a `config.yaml`.
    """
    file = folder / "config.yaml"
    if file.exists():
        raise InputError("there is a configuration already", where=str(file), remedy="name another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file", where=str(folder), remedy="name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(file, (CHECKOUT / "config.yaml").read_bytes())
    return file


def with_profile(arguments: Sequence[str], default: str) -> list[str]:
    """Return arguments of Snakemake that name a profile: `default` if they have none."""
    if any(argument.partition("=")[0] == PROFILE for argument in arguments):
        return list(arguments)
    return [PROFILE, default, *arguments]


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs Snakemake with our workflow in the working folder.

    `--profile local` and `--profile slurm` name our profiles where the folder has none of this name. A `--snakefile`
    among the arguments replaces the workflow.
    """
    return [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *_resolve_profiles(arguments)]


def _resolve_profiles(arguments: Iterable[str]) -> Iterator[str]:
    is_profile = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if is_profile:
            yield _profile(argument)
        elif name == PROFILE and equals:
            yield f"{PROFILE}={_profile(value)}"
        else:
            yield argument
        is_profile = argument == PROFILE


def _profile(name: str) -> str:
    ours = CHECKOUT / "profiles" / name
    is_ours = Path(name).name == name and not Path(name).exists() and ours.is_dir()
    return str(ours) if is_ours else name
