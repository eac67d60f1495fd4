"""Errors that a user sees: one line with the problem, its place and a remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

_MOST_CHARACTERS = 2000
"""Length to which each part of a message is cut."""


class GauntletError(Exception):
    """A foreseeable failure, reported in one line; the command ends with `exit_code`.

    `problem` is what is wrong, `where` the file, key or cell, `remedy` what would be right.
    """

    exit_code = 1

    def __init__(self, problem: str, *, where: str = "", remedy: str = "") -> None:
        problem, where, remedy = _part(" ".join(problem.splitlines())), _part(where), _part(remedy)
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
        super().__init__("")
        self.problem = "\n".join(str(error) for error in self.errors)
        self.args = (self.problem,)


class AttackError(GauntletError):
    """An attack that raised, or broke its contract; the cell fails and nothing is recorded."""


class Interrupted(GauntletError):
    """A stop on a signal; finished work is on disk, and the next attempt continues from it."""

    exit_code = 75  # EX_TEMPFAIL: "try again", which every workflow manager treats as a failed attempt


@contextmanager
def located(where: str) -> Iterator[None]:
    """Add the place to an error of this module that leaves the context without one."""
    try:
        yield
    except GauntletError as error:
        # InputErrors has its own places, and is built of other arguments.
        if error.where or type(error).__init__ is not GauntletError.__init__:
            raise
        raise type(error)(error.problem, where=where, remedy=error.remedy) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest to `name`, or list them when none is near: the first 60 of very many."""
    names = sorted(known)
    if (match := closest(name, names)) is not None:
        return f"did you mean '{match}'?"
    return f"known: {shortened(names, most=60)}" if names else "none is known"


def closest(name: str, known: Iterable[str], *, similarity: float = 0.6) -> str | None:
    """Return the known name that is nearest to `name`; None when none has this similarity, from 0 to 1 for equal."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=similarity)), None)


def shortened(names: Iterable[object], *, most: int = 6) -> str:
    """Join names for a message: the first `most` of them, each of at most 60 characters, and the number of the rest."""
    texts = [_cut(_one_line(str(name)), 60) for name in names]
    rest = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _one_line(text: str) -> str:
    """Escape characters that end a line or cannot be printed, as in a file name with a line break."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in text)


def _part(text: str) -> str:
    return _cut(_one_line(text))


def _cut(text: str, most: int = _MOST_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
