"""The declared stages, found in the folders of this package."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from gauntlet.core.errors import InputError, nearest
from gauntlet.pipeline.stage import Stage


@cache
def stages() -> tuple[Stage, ...]:
    """Return every declared stage, each after those whose files it reads."""
    folders = (file.parent.name for file in Path(__file__).parent.glob("*/declaration.py"))
    declared = (importlib.import_module(f"{__package__}.{name}.declaration").STAGE for name in folders)
    return tuple(sorted(declared, key=lambda stage: stage.order))


@cache
def stage(name: str) -> Stage:
    """Return the stage of a name. Raises InputError that names the nearest one."""
    known = {declared.name: declared for declared in stages()}
    if name not in known:
        raise InputError(f"no stage '{name}'", remedy=nearest(name, known))
    return known[name]
