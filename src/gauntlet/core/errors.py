"""Errors that a user sees: one line with the problem, its place and a remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GauntletError(Exception):
    """A foreseeable failure, reported in one line; the command ends with `exit_code`.

    `problem` is what is wrong, `where` the file, key or cell, `remedy` what would be right.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        self.problem, self.where, self.remedy = problem, where, remedy
        head = f"{where}: {problem}" if where else problem
        super().__init__(f"{head}; {remedy}" if remedy else head)


class InputError(GauntletError):
    """A configuration, data set, checkpoint or option that cannot be used; nothing was written."""

    exit_code = 2


class InputErrors(InputError):
    """Several input errors found in one pass, one line each."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class AttackError(GauntletError):
    """An attack that raised, or broke its contract; the cell fails and nothing is recorded."""


class Interrupted(GauntletError):
    """A stop on a signal; finished work is on disk, and the next attempt continues from it."""

    exit_code = 75  # EX_TEMPFAIL: "try again", which every workflow manager treats as a failed attempt


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest to `name`, or list them all when none is near."""
    names = sorted(known)
    matches = get_close_matches(name, names, n=1, cutoff=0.6)
    if matches:
        return f"did you mean '{matches[0]}'?"
    return f"known: {', '.join(names)}" if names else "none is known"
