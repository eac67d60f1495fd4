"""A copy of the code for a run on a cluster, so that the checkout may be edited while its jobs wait."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gauntlet.config import load
from gauntlet.core.files import write_json
from gauntlet.core.provenance.digests import digest_file, digest_json
from gauntlet.core.provenance.environment import LOCK, lock_file
from gauntlet.core.provenance.run_metadata import COMMIT_FILE, commit
from gauntlet.core.user_modules import FROZEN_VARIABLE, SAFE_PATH
from gauntlet.pipeline import paths
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.project import CHECKOUT, CHECKOUT_FILES, PACKAGED
from gauntlet.pipeline.staleness import Staleness
from gauntlet.registry.source_code import module_file

_PACKAGES = ("gauntlet", "snakemake_logger_plugin_gauntlet")
_IGNORED = shutil.ignore_patterns("__pycache__", ".*")


@dataclass(frozen=True)
class FrozenCode:
    """A copy of our package, of the user's modules in the working folder, and of the configuration files.

    `is_new` is False for one that an earlier submission has made.
    """

    folder: Path
    configs: tuple[Path, ...]
    is_new: bool = field(compare=False)

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which a process, and those that it starts, use the copy."""
        packages = [str(self.folder / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **SAFE_PATH,
            "PYTHONPATH": os.pathsep.join(packages),
            FROZEN_VARIABLE: str(self.folder / "modules"),
        }

    def discard(self) -> None:
        """Remove the copy, unless an earlier submission has made it."""
        if self.is_new:
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove_others(self) -> None:
        """Remove the copies of earlier controllers; the caller makes sure that no job uses them."""
        for other in self.folder.parent.iterdir():
            if other.name != self.folder.name:
                shutil.rmtree(other, ignore_errors=True)


def freeze(configs: Sequence[Path]) -> FrozenCode:
    """Copy all code that the cells of configuration files reach into a folder that is named by its content.

    The user's packages are copied whole. Modules from the user's PYTHONPATH, and files that a module outside of a
    package reads, are not copied.
    """
    paths.FROZEN_CODE.mkdir(parents=True, exist_ok=True)
    unfinished = paths.FROZEN_CODE / f".unfinished-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _copy_packages(unfinished / "packages")
        if lock := lock_file():
            # Where the copy looks for the lock of its checkout.
            _copy(lock, unfinished / LOCK)
        for source in _user_sources(configs):
            _copy(source, unfinished / "modules" / source.relative_to(Path.cwd()))
        copies = [Path("configuration", str(number), file.name) for number, file in enumerate(configs)]
        for file, copied in zip(configs, copies, strict=True):
            _copy(file, unfinished / copied)
        folder = paths.FROZEN_CODE.absolute() / digest_json(_digests(unfinished))[:16]
        is_new = not folder.exists()
        if is_new:
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return FrozenCode(folder, tuple(Path(os.path.relpath(folder / copied)) for copied in copies), is_new)


def _copy_packages(target: Path) -> None:
    """Copy our packages as a wheel has them, with the commit that they are of."""
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            _copy(Path(spec.origin).parent, target / name)
    for name in CHECKOUT_FILES:
        _copy(CHECKOUT / name, target / "gauntlet" / "pipeline" / PACKAGED / name)
    write_json(target / "gauntlet" / COMMIT_FILE, commit())


def _user_sources(configs: Sequence[Path]) -> Iterator[Path]:
    """Yield the modules and packages in the working folder that cells reach."""
    staleness = Staleness(Graph(load(configs)))
    reached = {module for cell in staleness.graph.cells() for module in staleness.modules(cell)}
    for top in sorted({module.partition(".")[0] for module in reached} - {"gauntlet"}):
        folder = Path.cwd() / top
        if (folder / "__init__.py").is_file():
            yield folder
            continue
        files = [module_file(module) for module in sorted(reached) if module.partition(".")[0] == top]
        yield from (file for file in files if file and file.is_relative_to(Path.cwd()))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=_IGNORED, dirs_exist_ok=True)
    elif not target.exists():
        shutil.copyfile(source, target)


def _digests(folder: Path) -> Mapping[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
