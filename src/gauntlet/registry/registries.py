"""Names to components: what exists, which options each has, and where its code is, without importing any of it.

A component registers itself where it is defined::

    @ATTACKS.register("pgd", kind="bounded", norms=("linf", "l2"), source="Madry et al. 2018, arXiv:1706.06083")
    def pgd(model, x, y, *, norm, epsilon, keys, steps: PositiveInt = 40): ...

The catalogue is read from that source text (decorator arguments are therefore literals), so that a configuration is
checked without torch and a cell's code is known without running it. Loading imports the module.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    create_model,
)

from gauntlet.core.errors import InputError, nearest
from gauntlet.registry.foolbox import Adapter, foolbox_options, foolbox_tags
from gauntlet.registry.option_types import Fraction, NonZeroFloat, OpenFraction, PowerOfTwo, Seed, type_of
from gauntlet.registry.source_code import (
    REQUIRED,
    Located,
    Parameter,
    aliases,
    exported,
    literal,
    locate,
    module_file,
    parameters,
    syntax_tree,
)

__all__ = [
    "ACTIVATIONS",
    "ADVERSARIES",
    "ATTACKS",
    "AUGMENTATIONS",
    "CERTIFICATES",
    "FIGURES",
    "FOLDINGS",
    "HEADS",
    "LOSSES",
    "MODELS",
    "NEGATIVES",
    "OPTIMIZERS",
    "PARTS",
    "REGULARIZERS",
    "SCHEDULES",
    "SOURCES",
    "UNITS",
    "Entry",
    "Fraction",
    "NonNegativeFloat",
    "NonNegativeInt",
    "NonZeroFloat",
    "OpenFraction",
    "PositiveFloat",
    "PositiveInt",
    "PowerOfTwo",
    "Registry",
    "Seed",
    "Spec",
    "part_of",
    "parts_of",
]

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Spec:
    """A component by name with all its options, defaults filled in."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Give the plain mapping that canonical JSON and manifests hold."""
        return {"name": self.name, **self.options}


@dataclass(frozen=True)
class Entry:
    """What is known of a component before it is loaded.

    `module` and `attribute` say where it is defined; `tags` are what it was registered with; `options` are its
    parameters less those that the harness supplies, or None where it accepts any.
    """

    name: str
    module: str
    attribute: str
    tags: Mapping[str, Any]
    options: tuple[Parameter, ...] | None
    doc: str

    @cached_property
    def options_model(self) -> type[BaseModel]:
        """Build the closed pydantic model of the options."""
        fields: dict[str, Any] = {
            option.name: (type_of(option.annotation), ... if option.default is REQUIRED else option.default)
            for option in self.options or ()
        }
        extra: Literal["allow", "forbid"] = "allow" if self.options is None else "forbid"
        config = ConfigDict(extra=extra, frozen=True, strict=True, allow_inf_nan=False)
        return create_model(f"options of {self.name}", __config__=config, **fields)

    def describe_options(self) -> str:
        """List the options with their defaults, as an error message shows them."""
        if not self.options:
            return "it has no options"
        parts = (
            f"{option.name} ({'required' if option.default is REQUIRED else repr(option.default)})"
            for option in self.options
        )
        return "options: " + ", ".join(parts)


class Registry:
    """The components of one kind.

    `variable` is the name of the registry object in this module, `place` the package or module where components of
    this kind live, `supplied` the parameters that the harness passes and no configuration may set.
    """

    def __init__(
        self, kind: str, variable: str, place: str, *, supplied: set[str], adapters: Mapping[str, Adapter] | None = None
    ) -> None:
        self.kind, self.variable, self.place = kind, variable, place
        self.supplied = frozenset(supplied)
        self.adapters = dict(adapters or {})

    def register(self, name: str, /, **tags: Any) -> Callable[[T], T]:
        """Mark the decorated class or function as the component `name`. Tags must be literals; `source` cites it."""

        def mark(component: T) -> T:
            if not f"{component.__module__}.".startswith(f"{self.place}."):
                return component  # a user's own: named by import path, its tags are read from there
            if name not in self.catalogue:
                raise ValueError(f"{self.kind} '{name}' must be registered by literals, in {self.place}")
            entry = self.catalogue[name]
            if (entry.module, entry.attribute) != (component.__module__, component.__qualname__):
                raise ValueError(f"{self.kind} '{name}' is registered twice: {entry.module} and {component.__module__}")
            return component

        return mark

    @cached_property
    def catalogue(self) -> Mapping[str, Entry]:
        """Read every registered component from the source of `place`."""
        found: dict[str, Entry] = {}
        for module, file in _modules(self.place):
            if f"@{self.variable}.register(" not in file.read_text(encoding="utf-8"):
                continue
            for node in syntax_tree(file).body:
                if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                    continue
                for decorator in node.decorator_list:
                    if not isinstance(decorator, ast.Call) or not _registers(decorator, {self.variable}):
                        continue
                    name = literal(decorator.args[0])
                    if name in found:
                        raise ValueError(f"{self.kind} '{name}' is registered twice: {found[name].module} and {module}")
                    tags = {str(keyword.arg): literal(keyword.value) for keyword in decorator.keywords}
                    found[name] = self._entry(name, Located(module, file, node), tags)
        return MappingProxyType(dict(sorted(found.items())))

    def names(self) -> list[str]:
        """List the registered names."""
        return list(self.catalogue)

    def entry(self, name: str) -> Entry:
        """Find a component by registered name, by `prefix:NAME` of an adapter, or by import path `module:Name`.

        Raises InputError that names the nearest known one.
        """
        if name in self.catalogue:
            return self.catalogue[name]
        prefix, _, rest = name.partition(":")
        if prefix in self.adapters:
            return self._adapted(name, self.adapters[prefix], rest)
        if IMPORT_PATH.fullmatch(name):
            return self._imported(name, prefix, rest)
        known = [*self.catalogue, *(f"{other}:" for other in self.adapters)]
        remedy = f"{nearest(name, known)}; an own class is named by import path, 'package.module:Name'"
        raise InputError(f"unknown {self.kind} {name!r}", remedy=remedy)

    def load(self, name: str) -> Any:
        """Import a component. Raises InputError when its module cannot be imported or does not define it."""
        entry = self.entry(name)
        prefix, _, rest = name.partition(":")
        if prefix in self.adapters:
            return importlib.import_module(self.adapters[prefix].module).adapt(rest)
        try:
            return getattr(importlib.import_module(entry.module), entry.attribute)
        except ImportError as error:
            raise InputError(f"{self.kind} '{name}' cannot be imported: {error}") from error

    def library(self, name: str) -> str:
        """Name the package that a component is from: an adapter's, its tag `library`, or the one that defines it."""
        adapter = self.adapters.get(name.partition(":")[0])
        entry = self.entry(name)
        return str(entry.tags.get("library", (adapter.package if adapter else entry.module).partition(".")[0]))

    def _entry(self, name: str, located: Located, tags: Mapping[str, Any], adapter: Adapter | None = None) -> Entry:
        known = parameters(located)
        if known is not None and adapter is not None:
            known = adapter.options(known)
        taken = self.supplied | set(tags.get("parts", ()))
        options = None if known is None else tuple(option for option in known if option.name not in taken)
        return Entry(name, located.module, located.node.name, MappingProxyType(dict(tags)), options, located.doc)

    def _adapted(self, name: str, adapter: Adapter, attribute: str) -> Entry:
        located = locate(adapter.package, attribute)
        attacks = [other for other in exported(adapter.package) if adapter.tags(locate(adapter.package, other))]
        if module_file(adapter.package) is None:
            package = adapter.package.partition(".")[0]
            raise InputError(f"{self.kind} '{name}' needs the package {package}", remedy=f"install {package}")
        tags = adapter.tags(located)
        if located is None or tags is None:
            raise InputError(f"{adapter.package} has no {self.kind} {attribute!r}", remedy=nearest(attribute, attacks))
        return self._entry(name, located, tags, adapter)

    def _imported(self, name: str, module: str, attribute: str) -> Entry:
        if module_file(module) is None:
            remedy = "run from the folder that holds it, or install it"
            raise InputError(f"{self.kind} '{name}': no module '{module}' with source is on the path", remedy=remedy)
        try:
            located = locate(module, attribute)
        except SyntaxError as error:
            where = f"{error.filename}:{error.lineno}"
            raise InputError(f"{self.kind} '{name}': its module is not Python: {error.msg}", where=where) from error
        if located is None:
            remedy = nearest(attribute, exported(module))
            raise InputError(
                f"{self.kind} '{name}': {module} defines no class or function '{attribute}'", remedy=remedy
            )
        tags: dict[str, Any] = {}
        names = {self.variable, *aliases(located.file, self.variable)}
        for decorator in located.node.decorator_list:
            if _registers(decorator, names) and isinstance(decorator, ast.Call):
                tags = {str(keyword.arg): literal(keyword.value) for keyword in decorator.keywords}
        return self._entry(name, located, tags)


def _registers(decorator: ast.expr, names: Collection[str]) -> bool:
    """Check for ``@ATTACKS.register(…)`` or ``@gauntlet.ATTACKS.register(…)``; `names` are those of the registry."""
    match decorator:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name), attr="register")):
            return name in names
    return False


def _modules(place: str) -> list[tuple[str, Path]]:
    """List the modules at and below a package, with their files."""
    root = module_file(place)
    if root is None:
        return []
    if root.name != "__init__.py":
        return [(place, root)]
    folder = root.parent
    names = ((file.relative_to(folder).with_suffix("").parts, file) for file in sorted(folder.rglob("*.py")))
    return [(".".join([place, *(part for part in parts if part != "__init__")]), file) for parts, file in names]


SOURCES = Registry("data source", "SOURCES", "gauntlet.learning.data.sources", supplied=set())
AUGMENTATIONS = Registry(
    "augmentation", "AUGMENTATIONS", "gauntlet.learning.data.augmentations", supplied={"images", "generator"}
)
NEGATIVES = Registry("negative", "NEGATIVES", "gauntlet.learning.data.negatives", supplied=set())
MODELS = Registry(
    "model", "MODELS", "gauntlet.learning.models", supplied={"image_shape", "num_classes", "in_channels", "mean", "std"}
)
HEADS = Registry("head", "HEADS", "gauntlet.learning.models", supplied={"in_features", "num_classes", "layer"})
ACTIVATIONS = Registry("activation", "ACTIVATIONS", "gauntlet.learning.models", supplied=set())
UNITS = Registry("unit", "UNITS", "gauntlet.learning.models", supplied=set())
FOLDINGS = Registry("folding", "FOLDINGS", "gauntlet.learning.models", supplied=set())
LOSSES = Registry("loss", "LOSSES", "gauntlet.learning.losses", supplied={"network", "outputs", "labels"})
OPTIMIZERS = Registry("optimizer", "OPTIMIZERS", "gauntlet.learning.training", supplied={"parameters"})
SCHEDULES = Registry("schedule", "SCHEDULES", "gauntlet.learning.training.schedules", supplied={"epoch", "epochs"})
REGULARIZERS = Registry("regularizer", "REGULARIZERS", "gauntlet.learning.training.regularizers", supplied=set())
ADVERSARIES = Registry("adversary", "ADVERSARIES", "gauntlet.learning.training", supplied=set())
ATTACKS = Registry(
    "attack",
    "ATTACKS",
    "gauntlet.robustness.attacks",
    supplied={"model", "x", "y", "norm", "epsilon", "keys"},
    adapters={
        "foolbox": Adapter(
            "foolbox.attacks", "gauntlet.robustness.attacks.adapters.foolbox", foolbox_tags, foolbox_options
        )
    },
)
CERTIFICATES = Registry(
    "certificate",
    "CERTIFICATES",
    "gauntlet.robustness.certificates",
    supplied={"network", "x", "y", "norm", "keys", "batch_size"},
)
FIGURES = Registry("figure", "FIGURES", "gauntlet.reporting.figures", supplied={"inputs", "style"})

PARTS: Mapping[str, tuple[Registry, str]] = MappingProxyType(
    {
        "head": (HEADS, "softmax"),
        "activation": (ACTIVATIONS, "relu"),
        "unit": (UNITS, "linear"),
        "folding": (FOLDINGS, "none"),
    }
)
"""Keys of a model that name a component of their own, for models whose tag `parts` lists them; and the default."""


def part_of(model: str, key: str, given: Any) -> Any:
    """Complete what is given of a model's part, a name or a mapping, by what the model sets other than the part does.

    A model's tag `part_options` says so, for example ``{"head": {"hidden": 0}}``; a part that has no such option is
    left alone, and so is what names no part.
    """
    named = {"name": given} if isinstance(given, str) else given
    wanted = MODELS.entry(model).tags.get("part_options", {}).get(key, {})
    if not wanted or not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
        return given
    try:
        taken = {option.name for option in PARTS[key][0].entry(named["name"]).options or ()}
    except InputError:
        return given
    return {**{option: value for option, value in wanted.items() if option in taken}, **named}


def parts_of(model: Spec) -> list[tuple[Registry, Spec]]:
    """List the components that stand among a model's options."""
    taken = MODELS.entry(model.name).tags.get("parts", ())
    found = [(PARTS[key][0], dict(model.options[key])) for key in taken if key in model.options]
    return [(registry, Spec(str(options.pop("name")), options)) for registry, options in found]
