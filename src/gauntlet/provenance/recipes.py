"""Recipes: everything that decides a file's bytes, and the one string that stands for it.

The string is what a cell depends on and what is written into the file it makes, with the recipe beside it, so that any
file can be asked later what made it and what has changed since.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gauntlet.files import canonical_json
from gauntlet.provenance.digests import digest_json

CELL_KEY = "gauntlet.cell"
RECIPE_KEY = "gauntlet.recipe"
DIGEST_KEY = "gauntlet.digest"

_MARK = re.compile(rb"gauntlet-cell:(sha256:[0-9a-f]{64})")
_DIGEST = re.compile(rb"gauntlet-digest:(sha256:[0-9a-f]{64})")
_WINDOW_BYTES = 1 << 16


@dataclass(frozen=True)
class Recipe:
    """What decides a file's bytes: a slice of the configuration, the code it uses, the digests of its inputs."""

    stage: str
    slice: Mapping[str, Any]
    modules: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def string(self) -> str:
        """The one string that stands for the recipe."""
        return f"sha256:{digest_json(self.as_dict())}"

    def as_dict(self) -> dict[str, Any]:
        """Give the plain mapping that is hashed."""
        parts = {"slice": self.slice, "modules": self.modules, "inputs": self.inputs}
        return {"stage": self.stage, **{name: dict(part) for name, part in parts.items()}}

    def metadata(self) -> dict[str, str]:
        """Give the entries that go into the metadata of the file that is made."""
        return {CELL_KEY: mark(self.string), RECIPE_KEY: canonical_json(self.as_dict())}


def mark(string: str) -> str:
    """Spell a recipe's string as files carry it, in whatever format, findable without parsing them."""
    return f"gauntlet-cell:{string}"


def digest_mark(digest: str) -> str:
    """Spell a content digest as files carry it."""
    return f"gauntlet-digest:sha256:{digest}"


def read_marks(path: Path) -> tuple[str | None, str | None]:
    """Find the recipe string and the content digest that a file carries near its beginning or its end.

    Works on every format the project writes, in two short reads; None for what is not there.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(_WINDOW_BYTES)
            size = stream.seek(0, 2)
            stream.seek(max(_WINDOW_BYTES, size - _WINDOW_BYTES))
            tail = stream.read()
    except OSError:
        return None, None
    return _last(_MARK, head, tail), _last(_DIGEST, head, tail)


def recipe_from(metadata: Mapping[str, str]) -> Recipe | None:
    """Rebuild the recipe that a file's metadata holds; None where it holds none."""
    try:
        return Recipe(**json.loads(metadata[RECIPE_KEY]))
    except (KeyError, ValueError, TypeError):
        return None


def _last(pattern: re.Pattern[bytes], head: bytes, tail: bytes) -> str | None:
    found = pattern.findall(tail) or pattern.findall(head)
    return found[-1].decode() if found else None
