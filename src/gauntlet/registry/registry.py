"""Registries of components: names, options and source files, without importing any component.

A component registers itself where it is defined::

    @ATTACKS.register("pgd", kind="bounded", norms=("linf", "l2"), source="Madry et al. 2018, arXiv:1706.06083")
    def pgd(model, x, y, *, norm, epsilon, keys, steps: PositiveInt = 40): ...

The catalog is read from this source text (so the decorator's arguments are literals): a configuration is checked
without torch, and the code of a cell is known without running it. Only `Registry.load` imports a component.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from traceback import extract_tb
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, create_model

from gauntlet.core.errors import InputError, first_line, nearest
from gauntlet.core.user_modules import shadowed_file
from gauntlet.registry.adapters import Adapter
from gauntlet.registry.option_types import type_of
from gauntlet.registry.source_code import (
    OWN,
    REQUIRED,
    Definition,
    Parameter,
    aliases,
    exported,
    imported_from,
    literal,
    locate,
    module_file,
    parameters,
    syntax_tree,
)

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Spec:
    """A component by name with all its options, defaults filled in."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the plain mapping that canonical JSON and manifests hold."""
        return {"name": self.name, **self.options}


@dataclass(frozen=True)
class Entry:
    """Description of a component, read from its source.

    `module` and `attribute` name its definition; `tags` are the arguments that it was registered with; `options` are
    its parameters without the reserved ones, or None if it accepts any. `named_in` is the module of an import path,
    which may only import the component.
    """

    name: str
    module: str
    attribute: str
    tags: Mapping[str, Any]
    options: tuple[Parameter, ...] | None
    doc: str
    named_in: str = ""

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules whose code decides the component: that of its definition, and the one where it is named."""
        return tuple(dict.fromkeys(filter(None, (self.module, self.named_in))))

    @cached_property
    def options_model(self) -> type[BaseModel]:
        """The closed pydantic model of the options."""
        fields: dict[str, Any] = {
            option.name: (type_of(option.annotation), ... if option.default is REQUIRED else option.default)
            for option in self.options or ()
        }
        extra: Literal["allow", "forbid"] = "allow" if self.options is None else "forbid"
        config = ConfigDict(extra=extra, frozen=True, strict=True, allow_inf_nan=False)
        return create_model(f"options of {self.name}", __config__=config, **fields)

    def complete_options(self, options: Mapping[str, Any], *, mode: Literal["python", "json"]) -> dict[str, Any]:
        """Check options and return them with the defaults of the others, except the component's `OWN`.

        Raises pydantic's ValidationError.
        """
        checked = self.options_model.model_validate(options)
        left_out = {option.name for option in self.options or () if option.default is OWN} - checked.model_fields_set
        return checked.model_dump(mode=mode, exclude=left_out)

    def describe_options(self) -> str:
        """List the options with their defaults, for an error message."""
        if not self.options:
            return "it has no options"
        defaults = {id(REQUIRED): " (required)", id(OWN): ""}
        parts = (
            f"{option.name}{defaults.get(id(option.default), f' ({option.default!r})')}" for option in self.options
        )
        return "options: " + ", ".join(parts)


class Registry:
    """The components of one kind.

    `variable` is the name of the registry object, by which decorators refer to it; `package` is the package or module
    that holds our components of this kind; `reserved` are the parameters that the caller passes, so no configuration
    may set them.
    """

    def __init__(
        self,
        kind: str,
        variable: str,
        package: str,
        *,
        reserved: set[str],
        adapters: Mapping[str, Adapter] | None = None,
    ) -> None:
        self.kind, self.variable, self.package = kind, variable, package
        self.reserved = frozenset(reserved)
        self.adapters = dict(adapters or {})

    def register(self, name: str, /, **tags: Any) -> Callable[[T], T]:
        """Mark the decorated class or function as the component `name`. Tags must be literals; `source` cites it."""

        def mark(component: T) -> T:
            if not f"{component.__module__}.".startswith(f"{self.package}."):
                return component  # a user's own: named by import path, and its tags are read there
            if name not in self.catalog:
                raise ValueError(f"{self.kind} '{name}' must be registered by literals, in {self.package}")
            entry = self.catalog[name]
            if (entry.module, entry.attribute) != (component.__module__, component.__qualname__):
                raise ValueError(f"{self.kind} '{name}' is registered twice: {entry.module} and {component.__module__}")
            return component

        return mark

    @cached_property
    def catalog(self) -> Mapping[str, Entry]:
        """Every registered component, read from the source of `package`."""
        found: dict[str, Entry] = {}
        for module, file in _modules(self.package):
            if f"@{self.variable}.register(" not in file.read_text(encoding="utf-8"):
                continue
            for node in syntax_tree(file).body:
                if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                    continue
                for call in _registrations(node, {self.variable}):
                    name = literal(call.args[0])
                    if name in found:
                        raise ValueError(f"{self.kind} '{name}' is registered twice: {found[name].module} and {module}")
                    found[name] = self._entry(name, Definition(module, file, node), _tags(call))
        return MappingProxyType(dict(sorted(found.items())))

    def names(self) -> list[str]:
        """List the registered names."""
        return list(self.catalog)

    def entry(self, name: str) -> Entry:
        """Find a component by registered name, by `prefix:NAME` of an adapter, or by import path `module:Name`.

        Raises InputError that suggests the nearest known name.
        """
        if name in self.catalog:
            return self.catalog[name]
        prefix, _, rest = name.partition(":")
        if prefix in self.adapters:
            return self._adapted(name, self.adapters[prefix], rest)
        if IMPORT_PATH.fullmatch(name):
            return self._imported(name, prefix, rest)
        known = [*self.catalog, *(f"{other}:" for other in self.adapters)]
        remedy = f"{nearest(name, known)}; your own is named by import path, 'package.module:Name'"
        raise InputError(f"unknown {self.kind} {name!r}", remedy=remedy)

    def known_options(self, component: Spec) -> Mapping[str, Any]:
        """Return the options of a component of this package; none of any other, whose options may mean anything."""
        return component.options if component.name in self.catalog else {}

    def load(self, name: str) -> Any:
        """Import a component. Raises InputError when its module cannot be imported or does not define it."""
        entry = self.entry(name)
        prefix, _, rest = name.partition(":")
        if prefix in self.adapters:
            return importlib.import_module(self.adapters[prefix].module).adapt(rest)
        # The module of an import path is imported itself: it may change what it imports.
        module, attribute = (entry.named_in, rest) if entry.named_in else (entry.module, entry.attribute)
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise InputError(f"{self.kind} '{name}' cannot be imported: {error}") from error
        except MemoryError:
            raise
        except Exception as error:  # a user's module may raise anything
            raise InputError(f"{self.kind} '{name}' cannot be imported: {_raised(error)}") from error

    def library(self, name: str) -> str:
        """Return the package that a component is from: an adapter's, its tag `library`, or that of its definition."""
        adapter = self.adapters.get(name.partition(":")[0])
        entry = self.entry(name)
        return str(entry.tags.get("library", (adapter.package if adapter else entry.module).partition(".")[0]))

    def _entry(
        self, name: str, definition: Definition, tags: Mapping[str, Any], adapter: Adapter | None = None
    ) -> Entry:
        accepted = parameters(definition) if adapter is None else adapter.options(definition)
        reserved = self.reserved | set(tags.get("parts", ()))
        options = None if accepted is None else tuple(option for option in accepted if option.name not in reserved)
        tags = MappingProxyType(dict(tags))
        return Entry(name, definition.module, definition.node.name, tags, options, definition.doc)

    def _adapted(self, name: str, adapter: Adapter, attribute: str) -> Entry:
        if module_file(adapter.package) is None:
            library = adapter.package.partition(".")[0]
            raise InputError(f"{self.kind} {name!r} needs the package {library}", remedy=f"install {library}")
        definition = adapter.find(adapter.package, attribute)
        tags = adapter.tags(definition)
        if definition is None or tags is None:
            known = adapter.names(adapter.package)
            raise InputError(f"{adapter.package} has no {self.kind} {attribute!r}", remedy=nearest(attribute, known))
        for package in tags.get("requires", ()):
            if module_file(package) is None:
                raise InputError(f"{self.kind} {name!r} needs the package {package}", remedy=f"install {package}")
        return self._entry(name, definition, tags, adapter)

    def _imported(self, name: str, module: str, attribute: str) -> Entry:
        if own := shadowed_file(module, module_file(module)):
            taken = f"{own.relative_to(Path.cwd())} is not found: '{module.partition('.')[0]}' is a module of"
            owner = "Python" if module.partition(".")[0] in sys.stdlib_module_names else "an installed package"
            raise InputError(f"{self.kind} '{name}': {taken} {owner}", remedy="rename it")
        if module_file(module) is None:
            remedy = "run from the folder that holds it, or install it"
            raise InputError(f"{self.kind} '{name}': no module '{module}' with source is on the path", remedy=remedy)
        try:
            definition = locate(module, attribute)
        except SyntaxError as error:
            where = f"{error.filename}:{error.lineno}"
            raise InputError(f"{self.kind} '{name}': its module is not Python: {error.msg}", where=where) from error
        if definition is None:
            known = [other for other in exported(module) if other != attribute]
            problem, remedy = f"{module} defines no class or function '{attribute}'", nearest(attribute, known)
            if source := imported_from(module, attribute):
                problem = f"{module} imports '{attribute}' from {source}, where no source of it is found"
                remedy = "name the class or function by the module that defines it"
            raise InputError(f"{self.kind} '{name}': {problem}", remedy=remedy)
        names = {self.variable, *aliases(definition.file, self.variable)}
        tags: dict[str, Any] = {}
        for call in _registrations(definition.node, names):
            tags = _tags(call)
        return replace(self._entry(name, definition, tags), named_in=module)


def _raised(error: Exception) -> str:
    """Describe what a module raised when it was imported, with the file and line."""
    frames = [frame for frame in extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    file, line = (frames[-1].filename, frames[-1].lineno) if frames else ("", None)
    if isinstance(error, SyntaxError):
        file, line = error.filename or file, error.lineno
    place = f" ({Path(file).name}, line {line})" if file else ""
    return f"{type(error).__name__}: {getattr(error, 'msg', None) or first_line(error)}{place}"


def _registrations(node: ast.FunctionDef | ast.ClassDef, names: Collection[str]) -> list[ast.Call]:
    """List the decorators ``@NAME.register(…)`` and ``@package.NAME.register(…)``, with NAME in `names`."""
    found = []
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr="register")):
                found += [decorator] if name in names else []
    return found


def _tags(call: ast.Call) -> dict[str, Any]:
    return {str(keyword.arg): literal(keyword.value) for keyword in call.keywords}


def _modules(package: str) -> list[tuple[str, Path]]:
    """List the modules at and below a package, with their files."""
    root = module_file(package)
    if root is None:
        return []
    if root.name != "__init__.py":
        return [(package, root)]
    folder = root.parent
    names = ((file.relative_to(folder).with_suffix("").parts, file) for file in sorted(folder.rglob("*.py")))
    return [(".".join([package, *(part for part in parts if part != "__init__")]), file) for parts, file in names]
