"""What a class or function accepts, read from its source without importing it.

A configuration can so be checked, to the last option of the last attack, before torch or any other heavy package is
loaded, and nothing a configuration names is executed by checking it.
"""

from __future__ import annotations

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REQUIRED: Any = object()
"""The default of a parameter that has none."""

Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Parameter:
    """One parameter: its annotation as a syntax tree, its default as a value where that is a literal."""

    name: str
    annotation: ast.expr | None
    default: Any


@dataclass(frozen=True)
class Located:
    """Where a name is defined: the module that defines it, that module's file, and the definition itself."""

    module: str
    file: Path
    node: Definition

    @property
    def doc(self) -> str:
        """The first line of the docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]


@cache
def module_file(module: str) -> Path | None:
    """Find a module's source file without importing anything; None where it has none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if not rest and spec.origin and spec.origin.endswith(".py") else None
    for location in map(Path, spec.submodule_search_locations):
        found = _source_below(location, rest)
        if found is not None:
            return found
    return None


def _source_below(folder: Path, parts: list[str]) -> Path | None:
    target = folder.joinpath(*parts)
    candidates = [target / "__init__.py", *([target.with_suffix(".py")] if parts else [])]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def syntax_tree(file: Path) -> ast.Module:
    """Parse a source file. Raises SyntaxError where it is not Python."""
    return ast.parse(file.read_bytes(), filename=str(file))


def _statements(file: Path) -> list[ast.stmt]:
    """List a module's statements, with those under ``if TYPE_CHECKING``: there a package lists what it loads late."""
    found: list[ast.stmt] = []
    for statement in syntax_tree(file).body:
        late = isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")
        found += statement.body if late and isinstance(statement, ast.If) else [statement]
    return found


def aliases(file: Path, name: str) -> list[str]:
    """List the names under which a module imports `name` from elsewhere."""
    imports = (statement for statement in _statements(file) if isinstance(statement, ast.ImportFrom))
    return [alias.asname or name for statement in imports for alias in statement.names if alias.name == name]


@cache
def imported_from(module: str, name: str) -> str | None:
    """Return the module that `module` imports `name` from; None where it does not."""
    file = module_file(module)
    for statement in reversed(_statements(file)) if file else ():
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _absolute(module, file, statement) if file else None
    return None


@cache
def locate(module: str, name: str) -> Located | None:
    """Find the definition that `module` binds to `name`, through re-exports and aliases; None where there is none."""
    return _locate(module, name, frozenset())


def _locate(module: str, name: str, seen: frozenset[tuple[str, str]]) -> Located | None:
    file = module_file(module)
    if file is None or (module, name) in seen:
        return None
    seen = seen | {(module, name)}
    for statement in reversed(_statements(file)):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return Located(module, file, statement)
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _locate(_absolute(module, file, statement), alias.name, seen)
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name) and _assigns(statement, name):
            return _locate(module, statement.value.id, seen)
    return None


def _assigns(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)


def _absolute(module: str, file: Path, statement: ast.ImportFrom) -> str:
    if not statement.level:
        return statement.module or ""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def exported(module: str) -> list[str]:
    """List the public names that a module defines, imports from elsewhere, or aliases."""
    file = module_file(module)
    names: set[str] = set()
    for statement in _statements(file) if file else []:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return sorted(name for name in names if not name.startswith("_"))


def lineage(located: Located) -> list[Located]:
    """List a class and the bases whose source can be found, nearest first."""
    found = [located]
    if isinstance(located.node, ast.ClassDef):
        for base in located.node.bases:
            parent = _class_named(located.module, base)
            if parent is not None:
                found.extend(other for other in lineage(parent) if other not in found)
    return found


def _class_named(module: str, base: ast.expr) -> Located | None:
    """Find the class that `module` calls ``Name`` or ``package.Name``."""
    if isinstance(base, ast.Name):
        return locate(module, base.id)
    if not isinstance(base, ast.Attribute):
        return None
    package = _module_named(module, ast.unparse(base.value)) or "torch"
    # torch.nn.Module has no options of its own and is long to read.
    return None if package.partition(".")[0] == "torch" else locate(package, base.attr)


def _module_named(module: str, name: str) -> str | None:
    """Return the full name of the module that `module` calls `name`, by ``import package`` or ``import package as``."""
    file = module_file(module)
    for statement in syntax_tree(file).body if file else []:
        for alias in statement.names if isinstance(statement, ast.Import) else ():
            if alias.asname == name:
                return alias.name
            if alias.asname is None and f"{name}.".startswith(f"{alias.name.partition('.')[0]}."):
                return name
    return None


def class_attribute(located: Located, name: str) -> ast.expr | None:
    """Find the expression that a class, or its nearest base, gives to the attribute or property `name`."""
    for owner in lineage(located):
        for statement in owner.node.body:
            if isinstance(statement, ast.Assign) and _assigns(statement, name):
                return statement.value
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                last = statement.body[-1]
                if isinstance(last, ast.Return) and last.value is not None:
                    return last.value
    return None


def parameters(located: Located) -> tuple[Parameter, ...] | None:
    """List what a function, or a class's constructor, accepts by name; None where it accepts any, or is not known."""
    if isinstance(located.node, ast.FunctionDef):
        return _parameters(located.node)
    for owner in lineage(located):
        for statement in owner.node.body:
            if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
                return _parameters(statement, skip_first=True)
    return None


def _parameters(function: ast.FunctionDef, *, skip_first: bool = False) -> tuple[Parameter, ...] | None:
    arguments = function.args
    if arguments.kwarg is not None:
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, defaults, strict=True))[1 if skip_first else 0 :]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return tuple(Parameter(a.arg, a.annotation, REQUIRED if d is None else literal(d)) for a, d in pairs)


def literal(node: ast.expr) -> Any:
    """Evaluate a literal, arithmetic on numbers included; where it is none, give its source text."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            left, right = literal(node.left), literal(node.right)
            if isinstance(left, int | float) and isinstance(right, int | float):
                return left / right
        return ast.unparse(node)
