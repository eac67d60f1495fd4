"""Folders in which the examples of a page of the docs are run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gauntlet.registry.source_code import locate, module_file, syntax_tree


@contextmanager
def entered(folder: Path, module: str) -> Iterator[Path]:
    """Work in a folder whose file `module` can be imported; afterwards it is forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        # Sources are found once a process; another test may have had a module of this name.
        for known in (module_file, locate, syntax_tree):
            known.cache_clear()
        yield folder
    sys.modules.pop(module, None)
