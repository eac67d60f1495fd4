"""Fingerprints of code: the modules that a cell reaches by import, with a hash of each.

The hash of a module is taken over its syntax tree without docstrings, so that comments, docstrings and formatting do
not matter, and it is the same under every supported Python. Modules that decide where and whether work is done, never
what comes out of it, are left out (INFRASTRUCTURE); so are installed packages, whose versions are the environment's.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from gauntlet.registry.source_code import exported, forget_search, imported_from, module_file, syntax_tree

INFRASTRUCTURE = (
    "gauntlet.cli",
    "gauntlet.config",
    "gauntlet.core.errors",
    "gauntlet.core.files",
    "gauntlet.core.progress",
    "gauntlet.core.provenance",
    "gauntlet.core.signals",
    "gauntlet.core.user_modules",
    "gauntlet.learning.training.checkpoints",
    "gauntlet.pipeline.cluster",
    "gauntlet.pipeline.forcing",
    "gauntlet.pipeline.forking",
    "gauntlet.pipeline.graph",
    "gauntlet.pipeline.paths",
    "gauntlet.pipeline.predict",
    "gauntlet.pipeline.run_stage",
    "gauntlet.pipeline.stage",
    "gauntlet.pipeline.stages.catalog",
    "gauntlet.pipeline.stages.components",
    "gauntlet.pipeline.stages.outputs",
    "gauntlet.pipeline.stages.torchrun",
    "gauntlet.pipeline.staleness",
    "gauntlet.pipeline.status",
    "gauntlet.registry",
    "gauntlet.robustness.evaluation.partial_results",
)

_STAGES = "gauntlet.pipeline.stages."

_PACKAGE_FOLDERS = ("site-packages", "dist-packages")
"""Names of the folders into which pip and distributions of Linux install packages."""

_LEFT_OUT_FIELDS = ("ctx", "kind", "type_comment")
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprint(roots: Iterable[str]) -> Mapping[str, str]:
    """Map every own module reached by import from `roots` to its hash."""
    return _fingerprint(frozenset(roots))


@cache
def _fingerprint(roots: frozenset[str]) -> Mapping[str, str]:
    reached: set[str] = set()
    waiting = [name for root in roots for name in _with_parents(root)]
    while waiting:
        module = waiting.pop()
        if module in reached or _left_out(module):
            continue
        reached.add(module)
        waiting.extend(imported(module))
    return MappingProxyType({module: module_hash(module) for module in sorted(reached)})


def read_ahead(*roots: str) -> None:
    """Read the source that fingerprints of `roots` need; a fork of this process does not read it again.

    Where modules are found is forgotten, since it depends on the working folder. The caller makes sure that the files
    are unchanged where this is used.
    """
    fingerprint(roots)
    for found in (_fingerprint, imported, module_hash, _is_own, _is_installed_package):
        found.cache_clear()
    forget_search()


@cache
def imported(module: str) -> frozenset[str]:
    """List the own modules that a module imports anywhere in its text, late imports and parent packages included.

    A name that ``gauntlet`` re-exports counts as an import of the module that defines it.
    """
    return frozenset(name for name in _imported_names(module, module_file(module)) if _is_own(name))


@cache
def _imported_names(module: str, file: Path | None) -> frozenset[str]:
    statements = _import_statements(file) if file else _ImportStatements((), (), ())
    modules = {parent for name in statements.modules for parent in _with_parents(name)}
    for level, source, aliases in statements.members:
        base = _base(module, file, level, source)
        names = [base, *(f"{base}.{alias}" for alias in aliases)]
        names += _exporters(aliases) if base == "gauntlet" else []
        modules.update(parent for name in names for parent in _with_parents(name))
    modules.update(parent for name in _exporters(statements.attributes) for parent in _with_parents(name))
    return frozenset(modules)


class _ImportStatements(NamedTuple):
    """The import statements of a file, and the attributes that it reads from the package `gauntlet`.

    `modules` are those that are imported as a whole, `members` the level, module and names of each ``from`` statement.
    """

    modules: tuple[str, ...]
    members: tuple[tuple[int, str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]


@cache
def _import_statements(file: Path) -> _ImportStatements:
    modules: list[str] = []
    members: list[tuple[int, str, tuple[str, ...]]] = []
    attributes: list[tuple[str, str]] = []
    package_names = set()
    tree = _parsed(file)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
            package_names |= {
                alias.asname or "gauntlet"
                for alias in node.names
                if alias.name == "gauntlet" or (alias.name.startswith("gauntlet.") and alias.asname is None)
            }
        elif isinstance(node, ast.ImportFrom):
            members.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.append((node.value.id, node.attr))
        elif isinstance(node, ast.Call) and (called := _imported_by_call(node)):
            members.append((*called, ()))
    used = (attribute for name, attribute in attributes if name in package_names)
    return _ImportStatements(tuple(modules), tuple(members), tuple(dict.fromkeys(used)))


def _imported_by_call(call: ast.Call) -> tuple[int, str] | None:
    """Return the level and module of ``import_module("name")`` or ``__import__("name")``; None for any other call.

    A relative name is taken as relative to the package of the calling module.
    """
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if function not in ("import_module", "__import__") or not call.args:
        return None
    name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    if not isinstance(name, str):
        return None
    module = name.lstrip(".")
    return len(name) - len(module), module


def _exporters(names: Iterable[str]) -> list[str]:
    """List the modules that define the names which ``gauntlet`` re-exports; all of them for ``*``."""
    reexported = [other for name in names for other in (exported("gauntlet") if name == "*" else [name])]
    return [module for name in reexported if (module := imported_from("gauntlet", name))]


@cache
def module_hash(module: str) -> str:
    """Return the hash of a module: of its syntax tree without docstrings."""
    file = module_file(module)
    return _file_hash(file) if file else hashlib.sha256().hexdigest()[:16]


@cache
def _file_hash(file: Path) -> str:
    tree = _parsed(file)
    content = file.read_bytes() if tree is None else "".join(_canonical(tree)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()[:16]


def _parsed(file: Path) -> ast.Module | None:
    """Return the syntax tree of a module; None for one that is not Python, which may never be imported."""
    try:
        return syntax_tree(file)
    except (SyntaxError, ValueError):
        return None


def _canonical(node: Any) -> list[str]:
    """Return the text of a syntax tree in parts; empty fields are left out, since newer Pythons add new ones."""
    parts: list[str] = []
    _append(node, parts.append)
    return parts


def _append(node: Any, put: Callable[[str], None]) -> None:
    """Pass the parts of a tree to `put`; a plan reads the trees of the whole package, so this is kept short."""
    if isinstance(node, ast.AST):
        put(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or value == [] or name in _LEFT_OUT_FIELDS:
                continue
            has_docstring = (
                name == "body" and isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False)
            )
            if has_docstring not in (False, None) and not (value := value[1:]):
                continue
            put(f" {name}=")
            _append(value, put)
        put(")")
    elif isinstance(node, list):
        put("[")
        for item in node:
            _append(item, put)
            put(",")
        put("]")
    else:
        put(f"{type(node).__name__}:{node!r}")


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _base(module: str, file: Path | None, level: int, source: str) -> str:
    if not level:
        return source
    parts = module.split(".")
    is_package = file is not None and file.name == "__init__.py"
    parts = parts[: len(parts) - level + (1 if is_package else 0)]
    return ".".join([*parts, *([source] if source else [])])


@cache
def _is_own(module: str) -> bool:
    """Return whether a module is ours, or a user's outside the installed packages."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    if top == "gauntlet":
        return module_file(module) is not None
    if _is_installed_package(top):
        return False
    file = module_file(module)
    return file is not None and not _is_installed(file)


@cache
def _is_installed_package(top: str) -> bool:
    """Return whether all folders of a package are among the installed ones, so that its modules are too."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return bool(locations) and all(_is_installed(Path(location, "__init__.py")) for location in locations)


def _is_installed(file: Path) -> bool:
    return not _installed_folders().isdisjoint(file.resolve().parents) or _is_recorded(file.resolve())


@cache
def _installed_folders() -> frozenset[Path]:
    return frozenset(Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib", "stdlib"))


def _is_recorded(file: Path) -> bool:
    """Return whether an installer put a file where it is: a user's packages, the system's, `pip install --target`."""
    return any(
        folder.name in _PACKAGE_FOLDERS or file.relative_to(folder).parts[0] in _recorded_names(folder)
        for folder in file.parents
    )


@cache
def _recorded_names(folder: Path) -> frozenset[str]:
    """Return the first part of each path that the records of a folder's distributions name."""
    records = [record for record in folder.glob("*.dist-info/RECORD") if record.is_file()]
    lines = (line for record in records for line in record.read_text("utf-8", "replace").splitlines())
    return frozenset(line.partition(",")[0].partition("/")[0] for line in lines)


def _left_out(module: str) -> bool:
    # The package's own __init__ only re-exports; following it would make every cell use everything.
    # What a declaration decides is in the recipe itself: the slice, the inputs, the modules.
    if module == "gauntlet" or (module.startswith(_STAGES) and module.endswith(".declaration")):
        return True
    return any(module == name or module.startswith(f"{name}.") for name in INFRASTRUCTURE)
