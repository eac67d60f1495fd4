"""The errors a user sees: one line that says what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class GauntletError(Exception):
    """A foreseeable failure, told in one line; the command that meets it exits with `exit_code`.

    `problem` says what is wrong, `where` names the file, key or cell, `remedy` says what would be right.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        self.problem, self.where, self.remedy = problem, where, remedy
        head = f"{where}: {problem}" if where else problem
        super().__init__(f"{head}; {remedy}" if remedy else head)


class InputError(GauntletError):
    """What the user gave (configuration, data, checkpoint, option) cannot be used; nothing was written."""

    exit_code = 2


class InputErrors(InputError):
    """Several input errors found in one pass, one line each."""

    def __init__(self, errors: Iterable[InputError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class AttackError(GauntletError):
    """An attack raised, or broke its contract; the cell fails and nothing is recorded."""


class Interrupted(GauntletError):
    """A signal asked the process to stop; what was finished is on disk and the next attempt goes on from there."""

    exit_code = 75  # EX_TEMPFAIL: "try again", which every workflow manager treats as a failed attempt


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest to `name`, or list them all when none is near."""
    names = sorted(known)
    matches = get_close_matches(name, names, n=1, cutoff=0.6)
    if matches:
        return f"did you mean '{matches[0]}'?"
    return f"known: {', '.join(names)}" if names else "none is known"
