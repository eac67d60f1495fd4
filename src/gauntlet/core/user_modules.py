"""Modules of the user in the working folder, which are found after all others.

A file there may have any name: `queue.py` next to a configuration must not replace Python's own module `queue`, in this
process or in one that it starts. Every command imports this module first, so it imports little itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Environment variable with which Python does not put the working folder, or that of a script, first on its path."""


FROZEN_VARIABLE = "GAUNTLET_FROZEN_MODULES"
"""Environment variable with the folder of a copy of the user's modules, which are found there first."""


def find_user_modules_last(environment: MutableMapping[str, str] = os.environ) -> None:
    """Put the working folder last on the module search path, and off the path of Python processes started later.

    Each process of ours calls this itself. A folder that the user has named in PYTHONPATH keeps its place. Frozen
    modules are found in their copy.
    """
    folder = os.getcwd()  # noqa: PTH109
    entries = environment.get("PYTHONPATH", "").split(os.pathsep)
    named = [os.path.abspath(entry) for entry in entries if entry]  # noqa: PTH100
    if folder not in named:
        last = [entry for entry in (environment.get(FROZEN_VARIABLE), folder) if entry]
        sys.path[:] = [*(entry for entry in sys.path if entry not in ("", *last)), *last]
    environment.update(SAFE_PATH)


def shadowed_file(module: str, found: Path | None) -> Path | None:
    """Return the file of the working folder that `module` names but Python does not find; None if there is none.

    `found` is the source file of the module that Python finds, None for one without source.
    """
    from pathlib import Path

    stem = Path.cwd().joinpath(*module.split("."))
    own = next((path for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py") if path.is_file()), None)
    if own is None or (found is not None and (found.samefile(own) or _is_frozen(found))):
        return None
    return own if _is_found(module.partition(".")[0]) else None


def _is_frozen(file: Path) -> bool:
    folder = os.environ.get(FROZEN_VARIABLE)
    return folder is not None and file.is_relative_to(folder)


def _is_found(top: str) -> bool:
    import importlib.util

    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False
