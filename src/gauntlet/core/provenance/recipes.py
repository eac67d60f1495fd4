"""Recipes: everything that decides a file's bytes, and the digest of it.

A cell depends on the digest of its recipe. The digest and the recipe are written into the files that the cell makes, so
any file states what made it, and what has changed since can be found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import ConfigDict, TypeAdapter, ValidationError

from gauntlet.core.files import canonical_json
from gauntlet.core.provenance.digests import digest_json

CELL_KEY = "gauntlet.cell"
RECIPE_KEY = "gauntlet.recipe"
CHOSEN_RECIPE_KEY = "gauntlet.chosen_recipe"
"""Recipe of the training of a model that was chosen from several, in the copy of its history."""
DIGEST_KEY = "gauntlet.digest"
ENVIRONMENT_NAME = "environment"
PACKAGES_NAME = "packages"
SECONDS_KEY = "gauntlet.seconds"
VERSIONS_KEY = "gauntlet.versions"
PACKAGES_KEY = f"gauntlet.{PACKAGES_NAME}"

_RECIPE_MARK = re.compile(rb"gauntlet-cell:(sha256:[0-9a-f]{64})")
_CONTENT_MARK = re.compile(rb"gauntlet-digest:(sha256:[0-9a-f]{64})")
_ENVIRONMENT_MARK = re.compile(rb"gauntlet-environment:(sha256:[0-9a-f]{64})")
_WINDOW_BYTES = 1 << 16


@dataclass(frozen=True)
class Recipe:
    """All that decides a file's bytes: stage, slice of the configuration, code by module, digests of the inputs."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    stage: str
    slice: Mapping[str, Any]
    modules: Mapping[str, str]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The digest of the recipe."""
        # Thousands of cells use the same code, so the mapping of modules is hashed once and replaced by its digest.
        code = _digest_modules(tuple(self.modules.items()))
        return f"sha256:{digest_json({**self.as_dict(), 'modules': code})}"

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping that is hashed."""
        parts = {"slice": self.slice, "modules": self.modules, "inputs": self.inputs}
        return {"stage": self.stage, **{name: dict(part) for name, part in parts.items()}}

    def metadata(self) -> dict[str, str]:
        """Return the entries for the metadata of the file."""
        return {CELL_KEY: recipe_mark(self.digest), RECIPE_KEY: canonical_json(self.as_dict())}


_RECIPES = TypeAdapter(Recipe)


@cache
def _digest_modules(modules: tuple[tuple[str, str], ...]) -> str:
    return digest_json(dict(modules))


def recipe_from(metadata: Mapping[str, str]) -> Recipe | None:
    """Return the recipe in a file's metadata; None if it holds none."""
    try:
        return _RECIPES.validate_json(metadata[RECIPE_KEY])
    except (KeyError, ValidationError):
        return None


def recipe_mark(digest: str) -> str:
    """Return the mark of a recipe's digest, which is found in files of any format without parsing them."""
    return f"gauntlet-cell:{digest}"


def digest_mark(digest: str) -> str:
    """Return the mark of a content digest."""
    return f"gauntlet-digest:sha256:{digest}"


def environment_mark(digest: str) -> str:
    """Return the mark of an environment's digest."""
    return f"gauntlet-environment:{digest}"


class FileMarks(NamedTuple):
    """Digests that a file carries: of its recipe, its content, and the environment it was made in; None if absent."""

    recipe: str | None = None
    content: str | None = None
    environment: str | None = None


def read_marks(path: Path) -> FileMarks:
    """Find the marks near a file's beginning or end, by short reads; all None for a file that cannot be read.

    The metadata of a Parquet file are read as a whole: their size grows with the experiment.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return FileMarks()
    try:
        size = os.fstat(handle).st_size
        head = os.pread(handle, min(size, _WINDOW_BYTES), 0)
        tail = _tail(handle, size, _WINDOW_BYTES, after=len(head))
        if (footer := _parquet_footer_bytes(tail)) > len(tail):
            tail = _tail(handle, size, footer, after=len(head))
    except OSError:
        return FileMarks()
    finally:
        os.close(handle)
    # A mark may lie across the end of the first window if the second follows it directly.
    content = head + tail if len(head) + len(tail) == size else head + b"\n" + tail
    return FileMarks(*(_last(pattern, content) for pattern in (_RECIPE_MARK, _CONTENT_MARK, _ENVIRONMENT_MARK)))


def _tail(handle: int, size: int, most: int, *, after: int) -> bytes:
    """Read at most the last `most` bytes of a file of `size` bytes, and none of the first `after`."""
    start = max(after, size - most)
    return os.pread(handle, size - start, start)


def _parquet_footer_bytes(tail: bytes) -> int:
    """Return the size of a Parquet file's metadata, with their length and the format's name; 0 for other files."""
    return int.from_bytes(tail[-8:-4], "little") + 8 if tail.endswith(b"PAR1") else 0


def _last(pattern: re.Pattern[bytes], content: bytes) -> str | None:
    found = pattern.findall(content)
    return found[-1].decode() if found else None
