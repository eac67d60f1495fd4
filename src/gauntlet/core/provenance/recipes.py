"""Recipes: everything that decides a file's bytes, and the one string that stands for it.

The string is what a cell depends on and what is written into the file it makes, with the recipe beside it, so that any
file can be asked later what made it and what has changed since.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from gauntlet.core.files import canonical_json
from gauntlet.core.provenance.digests import digest_json

CELL_KEY = "gauntlet.cell"
RECIPE_KEY = "gauntlet.recipe"
DIGEST_KEY = "gauntlet.digest"
ENVIRONMENT_NAME = "environment"
PACKAGES_NAME = "packages"
SECONDS_KEY = "gauntlet.seconds"
VERSIONS_KEY = "gauntlet.versions"
PACKAGES_KEY = f"gauntlet.{PACKAGES_NAME}"

_MARK = re.compile(rb"gauntlet-cell:(sha256:[0-9a-f]{64})")
_DIGEST = re.compile(rb"gauntlet-digest:(sha256:[0-9a-f]{64})")
_ENVIRONMENT = re.compile(rb"gauntlet-environment:(sha256:[0-9a-f]{64})")
_WINDOW_BYTES = 1 << 16


@dataclass(frozen=True)
class Recipe:
    """What decides a file's bytes: a slice of the configuration, the code it uses, the digests of its inputs."""

    stage: str
    slice: Mapping[str, Any]
    modules: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def string(self) -> str:
        """The one string that stands for the recipe."""
        # Thousands of cells use the same code: its mapping is hashed once, and by its digest from then on.
        code = _digest_modules(tuple(self.modules.items()))
        return f"sha256:{digest_json({**self.as_dict(), 'modules': code})}"

    def as_dict(self) -> dict[str, Any]:
        """Give the plain mapping that is hashed."""
        parts = {"slice": self.slice, "modules": self.modules, "inputs": self.inputs}
        return {"stage": self.stage, **{name: dict(part) for name, part in parts.items()}}

    def metadata(self) -> dict[str, str]:
        """Give the entries that go into the metadata of the file that is made."""
        return {CELL_KEY: mark(self.string), RECIPE_KEY: canonical_json(self.as_dict())}


@cache
def _digest_modules(modules: tuple[tuple[str, str], ...]) -> str:
    return digest_json(dict(modules))


def mark(string: str) -> str:
    """Spell a recipe's string as files carry it, in whatever format, findable without parsing them."""
    return f"gauntlet-cell:{string}"


def digest_mark(digest: str) -> str:
    """Spell a content digest as files carry it."""
    return f"gauntlet-digest:sha256:{digest}"


def environment_mark(digest: str) -> str:
    """Spell the digest of the environment as files carry it."""
    return f"gauntlet-environment:{digest}"


class Marks(NamedTuple):
    """What a file says of itself, findable without parsing it; None for what it does not say."""

    cell: str | None = None
    digest: str | None = None
    environment: str | None = None


def read_marks(path: Path) -> tuple[str | None, str | None]:
    """Find the recipe string and the content digest that a file carries; see `scan`."""
    return scan(path)[:2]


def scan(path: Path) -> Marks:
    """Find the marks that a file carries near its beginning or its end.

    Works on every format the project writes, in two short reads; None for what is not there.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return Marks()
    try:
        size = os.fstat(handle).st_size
        head = os.pread(handle, min(size, _WINDOW_BYTES), 0)
        rest = min(size - len(head), _WINDOW_BYTES)
        tail = os.pread(handle, rest, size - rest) if rest else b""
    except OSError:
        return Marks()
    finally:
        os.close(handle)
    return Marks(*(_last(pattern, head, tail) for pattern in (_MARK, _DIGEST, _ENVIRONMENT)))


def recipe_from(metadata: Mapping[str, str]) -> Recipe | None:
    """Rebuild the recipe that a file's metadata holds; None where it holds none."""
    try:
        return Recipe(**json.loads(metadata[RECIPE_KEY]))
    except (KeyError, ValueError, TypeError):
        return None


def _last(pattern: re.Pattern[bytes], head: bytes, tail: bytes) -> str | None:
    found = pattern.findall(tail) or pattern.findall(head)
    return found[-1].decode() if found else None
