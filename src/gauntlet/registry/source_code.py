"""Definitions, parameters and bases of classes and functions, read from source text without importing it.

So a configuration is checked, to the last option of the last attack, before torch or any other heavy package is
loaded, and checking it runs nothing that it names.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parents[1]

REQUIRED: Any = object()
"""The default of a parameter that has none."""


class _Own:
    """The default of an option that is passed on only if it is set: its component decides otherwise."""

    def __repr__(self) -> str:
        return "its own"


OWN: Any = _Own()


@dataclass(frozen=True)
class Parameter:
    """One parameter: its annotation as a syntax tree, its default as a value if that is a literal, else OWN."""

    name: str
    annotation: ast.expr | None
    default: Any


@dataclass(frozen=True)
class Definition:
    """A class or function, with the module that defines it and that module's file."""

    module: str
    file: Path
    node: ast.FunctionDef | ast.ClassDef

    @property
    def doc(self) -> str:
        """The first line of the docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]


@cache
def module_file(module: str) -> Path | None:
    """Find a module's source file without importing anything; None where it has none."""
    top, *rest = module.split(".")
    if top == _PACKAGE.name:
        return _own_file(module)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin) if not rest and spec.origin and spec.origin.endswith(".py") else None
    for location in map(Path, spec.submodule_search_locations):
        file = _source_below(location, rest)
        if file is not None:
            return file
    return None


@cache
def _own_file(module: str) -> Path | None:
    """Find a module of this package, which is where this file is, whatever the module search path."""
    return _source_below(_PACKAGE, module.split(".")[1:])


def _source_below(folder: Path, parts: list[str]) -> Path | None:
    target = folder.joinpath(*parts)
    candidates = [target / "__init__.py", *([target.with_suffix(".py")] if parts else [])]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def syntax_tree(file: Path) -> ast.Module:
    """Parse a source file. Raises SyntaxError where it is not Python."""
    return ast.parse(file.read_bytes(), filename=str(file))


@cache
def locate(module: str, name: str) -> Definition | None:
    """Find the definition that `module` binds to `name`, through re-exports and aliases; None where there is none."""
    return _locate(module, name, frozenset())


@cache
def _located_before(module: str, name: str, statement: ast.stmt) -> Definition | None:
    """Find the definition that `module` binds to `name` before a statement, as for the bases of ``class A(A)``."""
    return _locate(module, name, frozenset(), before=statement)


def _locate(
    module: str, name: str, visited: frozenset[tuple[str, str]], *, before: ast.stmt | None = None
) -> Definition | None:
    file = module_file(module)
    if file is None or (module, name) in visited:
        return None
    visited = visited | {(module, name)}
    statements = _statements(file)
    if before in statements:
        statements = statements[: statements.index(before)]
    for statement in reversed(statements):
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name == name:
            return Definition(module, file, statement)
        found = None
        if isinstance(statement, ast.ImportFrom):
            source = _absolute(module, file, statement)
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    found = _locate(source, alias.name, visited)
                elif alias.name == "*":
                    found = _located_by_star(source, name, visited) or found
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name) and _assigns(statement, name):
            found = _locate(module, statement.value.id, visited)
        # An import that finds nothing may be one of several, as in ``try: from a import x; except: from b import x``.
        if found is not None:
            return found
    return None


def _located_by_star(module: str, name: str, visited: frozenset[tuple[str, str]]) -> Definition | None:
    """Find what ``from module import *`` binds to `name`: a public name, of ``__all__`` where that is a literal."""
    listed = _listed(module)
    public = not name.startswith("_") if listed is None else name in listed
    return _locate(module, name, visited) if public else None


def _listed(module: str) -> list[str] | None:
    """Return a module's ``__all__``; None where it has none, or computes it."""
    file = module_file(module)
    for statement in _statements(file) if file else ():
        if isinstance(statement, ast.Assign) and _assigns(statement, "__all__"):
            names = literal(statement.value)
            return [str(name) for name in names] if isinstance(names, list | tuple) else None
    return None


def _statements(file: Path) -> list[ast.stmt]:
    """List a module's statements, with those in all branches of ``if`` and ``try``.

    Under ``if TYPE_CHECKING``, a package lists what it loads late. The first branch is the last in the list: of several
    definitions, the last one counts.
    """
    return list(_unfolded(syntax_tree(file).body))


def _unfolded(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        if isinstance(statement, ast.Try):
            handlers = [inner for handler in reversed(statement.handlers) for inner in handler.body]
            yield from _unfolded([*handlers, *statement.body, *statement.orelse, *statement.finalbody])
        elif isinstance(statement, ast.If):
            yield from _unfolded([*statement.orelse, *statement.body])
        else:
            yield statement


def _assigns(statement: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in statement.targets)


def _absolute(module: str, file: Path, statement: ast.ImportFrom) -> str:
    """Return the full name of the module that a statement imports from."""
    if not statement.level:
        return statement.module or ""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _imports(file: Path) -> Iterator[tuple[ast.ImportFrom, ast.alias]]:
    for statement in _statements(file):
        if isinstance(statement, ast.ImportFrom):
            yield from ((statement, alias) for alias in statement.names)


@cache
def optional_packages(file: Path) -> tuple[str, ...]:
    """List the packages that a module imports in a ``try`` at its top level, for want of which its classes fail."""
    statements = [inner for outer in syntax_tree(file).body if isinstance(outer, ast.Try) for inner in outer.body]
    names = [statement.module or "" for statement in statements if isinstance(statement, ast.ImportFrom)]
    names += [alias.name for statement in statements if isinstance(statement, ast.Import) for alias in statement.names]
    return tuple(dict.fromkeys(name.partition(".")[0] for name in names if name))


def forget_search() -> None:
    """Forget where modules were found, as before a change of the module search path; facts about files are kept."""
    for found in (module_file, locate, imported_from, _located_before):
        found.cache_clear()


def aliases(file: Path, name: str) -> list[str]:
    """List the names under which a module imports `name` from elsewhere."""
    return [alias.asname or name for _, alias in _imports(file) if alias.name == name]


@cache
def imported_from(module: str, name: str) -> str | None:
    """Return the module that `module` imports `name` from; None where it does not."""
    file = module_file(module)
    if file is None:
        return None
    sources = [_absolute(module, file, node) for node, alias in _imports(file) if (alias.asname or alias.name) == name]
    return sources[-1] if sources else None


def exported(module: str) -> list[str]:
    """List the public names that a module defines, imports from elsewhere, or aliases."""
    file = module_file(module)
    names: set[str] = set()
    for statement in _statements(file) if file else []:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names.add(statement.name)
        elif isinstance(statement, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in statement.names if alias.name != "*")
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name):
            names.update(target.id for target in statement.targets if isinstance(target, ast.Name))
    return sorted(name for name in names if not name.startswith("_"))


def with_bases(definition: Definition) -> list[Definition]:
    """List a class and those of its bases whose source is found, nearest first; a function alone."""
    found = [definition]
    if isinstance(definition.node, ast.ClassDef):
        for base in definition.node.bases:
            parent = _base_of(definition, base)
            if parent is not None:
                found.extend(other for other in with_bases(parent) if other not in found)
    return found


def _base_of(definition: Definition, base: ast.expr) -> Definition | None:
    """Find the class that a class's module calls ``Name`` or ``package.Name`` where it names its bases."""
    if isinstance(base, ast.Name):
        return _located_before(definition.module, base.id, definition.node)
    if not isinstance(base, ast.Attribute):
        return None
    package = _module_named(definition.module, ast.unparse(base.value))
    # torch.nn.Module has no options of its own, and its file takes long to parse.
    return None if package is None or package.partition(".")[0] == "torch" else locate(package, base.attr)


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


def class_attribute(definition: Definition, name: str) -> ast.expr | None:
    """Return the expression that a class, or its nearest base, assigns to the attribute or returns as the property."""
    for owner in with_bases(definition):
        for statement in owner.node.body:
            if isinstance(statement, ast.Assign) and _assigns(statement, name):
                return statement.value
            if isinstance(statement, ast.FunctionDef) and statement.name == name:
                last = statement.body[-1]
                if isinstance(last, ast.Return) and last.value is not None:
                    return last.value
    return None


def parameters(definition: Definition) -> tuple[Parameter, ...] | None:
    """List what a function, or a class's constructor, accepts by name; None where it accepts any, or is not known."""
    if isinstance(definition.node, ast.FunctionDef):
        return _parameters(definition.node)
    return next((_parameters(constructor, skip_first=True) for constructor in constructors(definition)), None)


def constructors(definition: Definition) -> Iterator[ast.FunctionDef]:
    """Yield the constructors of a class and of its bases, nearest first."""
    for owner in with_bases(definition):
        own = [inner for inner in owner.node.body if isinstance(inner, ast.FunctionDef) and inner.name == "__init__"]
        # Of several, the last one counts: those before it are overloads.
        yield from own[-1:]


def _parameters(function: ast.FunctionDef, *, skip_first: bool = False) -> tuple[Parameter, ...] | None:
    return None if function.args.kwarg is not None else named_parameters(function, skip_first=skip_first)


def named_parameters(function: ast.FunctionDef, *, skip_first: bool = False) -> tuple[Parameter, ...]:
    """List the parameters that a function names, without those that ``**kwargs`` would accept."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, defaults, strict=True))[1 if skip_first else 0 :]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return tuple(Parameter(a.arg, a.annotation, REQUIRED if d is None else _default(d)) for a, d in pairs)


def _default(node: ast.expr) -> Any:
    """Return the value of a default; OWN for one that is no literal, such as a constant of its module."""
    try:
        return _evaluate(node)
    except _NO_LITERAL:
        return OWN


def literal(node: ast.expr) -> Any:
    """Evaluate a literal, quotients of numbers included; return the source text of anything else."""
    try:
        return _evaluate(node)
    except _NO_LITERAL:
        return ast.unparse(node)


_NO_LITERAL = (ValueError, TypeError, ZeroDivisionError)


def _evaluate(node: ast.expr) -> Any:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        left, right = _evaluate(node.left), _evaluate(node.right)
        return left / right
    return ast.literal_eval(node)
