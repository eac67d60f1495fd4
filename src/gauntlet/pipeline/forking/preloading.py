"""Modules that a fork server loads for a command, and facts about their source.

A fork must run, and fingerprint, the code that a process started in its place would. User modules are imported by each
fork. Of this package, a fork inherits modules and facts read from source files; before each fork the files are compared
with those at the server's start, and once one differs no command is served any more.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# pyarrow imports it, where it is installed, when it first converts a value.
_LATE_IMPORTS = ("pandas",)

_REPORTING = "gauntlet.reporting."
"""The package of the components that stages without a model use."""

_PACKAGE = Path(__file__).parents[2]


class Preloaded:
    """The modules of commands, loaded when a command is first asked for."""

    def __init__(self) -> None:
        gc.disable()
        self._sources = source_digest()
        self._commands: dict[str, bool] = {}

    def prepare(self, command: str, configs: Iterable[Path] = ()) -> bool:
        """Load what a command needs, parse its configuration, and return whether a fork of this process may run it."""
        from gauntlet.config import yaml_file

        for path in configs:
            yaml_file.read_ahead(path)
        if command not in self._commands:
            # Edited modules may not even be importable, and their errors would end the server with all its forks.
            if source_digest() != self._sources:
                return False
            self._commands[command] = _load(command)
            # Libraries never become garbage, and a collection in a fork would copy every page that it visits.
            gc.freeze()
        return self._commands[command] and source_digest() == self._sources


def source_digest(folder: Path = _PACKAGE) -> bytes:
    """Return a digest of the names and contents of a package's source files; file times and sizes can deceive."""
    digest = hashlib.sha256()
    folders = [str(folder)]
    while folders:
        names = sorted(os.scandir(folders.pop()), key=lambda entry: entry.name)
        folders += [entry.path for entry in names if entry.is_dir() and entry.name != "__pycache__"]
        for entry in names:
            if entry.name.endswith(".py"):
                # Before every fork: pathlib would take longer than the reading.
                with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123
                    content = file.read()
                digest.update(f"{entry.path}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
                digest.update(content)
    return digest.digest()


def _load(command: str) -> bool:
    """Load the modules of a stage's command, and what is read of their source; False if there is no such stage."""
    from gauntlet.core.provenance.environment import versions
    from gauntlet.pipeline import fingerprint
    from gauntlet.pipeline.stages.catalog import stages
    from gauntlet.registry.registries import REGISTRIES

    stage = next((declared for declared in stages() if declared.command == command), None)
    if stage is None:
        return False
    used = [registry for registry in REGISTRIES if registry.package.startswith(_REPORTING) != stage.uses_model]
    components = [entry.module for registry in used for entry in registry.catalog.values()]
    for module in ("gauntlet.pipeline.run_stage", stage.module, *_LATE_IMPORTS, *stage.late_imports):
        # The command itself reports what it lacks.
        with suppress(ImportError):
            importlib.import_module(module)
    for import_path in filter(None, ("gauntlet.cli:fill_caches", stage.fills_caches)):
        module, _, function = import_path.partition(":")
        with suppress(ImportError):
            getattr(importlib.import_module(module), function)()
    # Every configuration is checked against the components of all kinds, and every file states the versions.
    for entry in (entry for registry in REGISTRIES for entry in registry.catalog.values()):
        _ = entry.options_model
    versions()
    fingerprint.read_ahead(stage.module, *components)
    return True
