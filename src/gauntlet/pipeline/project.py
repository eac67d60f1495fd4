"""Gauntlet in any folder: a configuration to begin with, and Snakemake with the workflow of this package."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gauntlet.core.errors import InputError
from gauntlet.core.files import require_writable, write_bytes

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

    Raises InputError if the folder has a `config.yaml`, cannot be made, or cannot be written to.
    """
    file = folder / "config.yaml"
    try:
        if file.exists():
            raise InputError("there is a configuration already", where=str(file), remedy="name another folder")
        if folder.exists() and not folder.is_dir():
            raise InputError("this is a file", where=str(folder), remedy="name a folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"this folder cannot be made ({error.strerror})"
        raise InputError(problem, where=str(folder), remedy="name a folder of your own") from error
    require_writable(folder)
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
    resolved = [
        prefix + (profile_path(value) if is_profile else value) for prefix, value, is_profile in _parts(arguments)
    ]
    return [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *resolved]


def profiles(arguments: Iterable[str]) -> list[str]:
    """Return the profiles that Snakemake's arguments name."""
    return [value for _, value, is_profile in _parts(arguments) if is_profile]


def our_profiles() -> list[str]:
    """Return the names of the profiles of this package."""
    return sorted(folder.name for folder in (CHECKOUT / "profiles").iterdir() if folder.is_dir())


def profile_path(name: str) -> str:
    """Return the path of our profile of this name, if the working folder has no file or folder of it; else the name."""
    is_ours = name in our_profiles() and not Path(name).exists()
    return str(CHECKOUT / "profiles" / name) if is_ours else name


def _parts(arguments: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield each argument as a prefix, the rest, and whether the rest is a profile."""
    is_profile = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not is_profile and name == PROFILE and equals:
            yield f"{PROFILE}=", value, True
        else:
            yield "", argument, is_profile
        is_profile = argument == PROFILE
