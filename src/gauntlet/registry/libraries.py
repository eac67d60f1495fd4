"""Networks of torchvision and timm, by names such as ``torchvision:resnet18``: read from the functions that build them.

The names of torchvision's data sets are read from its source too.

These functions have the decorator ``register_model`` and pass most options on to the class of their return annotation.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from gauntlet.registry.source_code import (
    OWN,
    REQUIRED,
    Definition,
    Parameter,
    constructors,
    exported,
    locate,
    module_file,
    named_parameters,
    syntax_tree,
)

# What the adapter decides: no weights are downloaded, and the data decide the size, channels and classes.
_SET_BY_ADAPTER = frozenset(
    {
        "weights",
        "progress",
        "pretrained",
        "pretrained_cfg",
        "cache_dir",
        "image_size",
        "input_size",
        "img_size",
        "in_chans",
        "num_classes",
        "device",
        "dtype",
    }
)
_BUILDER = re.compile(r"^@register_model\b.*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)


def builder_names(package: str) -> list[str]:
    """List the networks that the modules of a package register, without those of its subpackages."""
    return sorted(_builders(package))


def data_set_names() -> list[str]:
    """List the data sets of torchvision that are read from a folder `root`; empty if it is not installed."""
    package = "torchvision.datasets"
    return [name for name in exported(package) if _has_root(locate(package, name))]


def _has_root(definition: Definition | None) -> bool:
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return False
    nearest_constructor = next(constructors(definition), None)
    return nearest_constructor is not None and "root" in (
        parameter.name for parameter in named_parameters(nearest_constructor, skip_first=True)
    )


def find_builder(package: str, name: str) -> Definition | None:
    """Find the function that builds a network; None where the package registers no network of this name."""
    file = _builders(package).get(name)
    for node in syntax_tree(file).body if file else ():
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return Definition(f"{package}.{file.stem}" if file else package, file or Path(), node)
    return None


def builder_tags(definition: Definition | None) -> dict[str, Any] | None:
    """Return no tags for a function that builds a network; None for what is none."""
    return None if definition is None else {}


def builder_options(definition: Definition) -> tuple[Parameter, ...] | None:
    """List the options of a function that builds a network; None where it accepts any, or they are not known.

    They are its own, those that it takes out of its ``**kwargs``, and those of the class that it returns; what the
    class requires the function sets itself. Their defaults may differ from the class's, so they are left to it.
    """
    function = definition.node
    if not isinstance(function, ast.FunctionDef):
        return None
    own = [parameter for parameter in named_parameters(function) if parameter.name not in _SET_BY_ADAPTER]
    if function.args.kwarg is None:
        return tuple(own)
    network = _returned_class(definition)
    if network is None:
        return None
    taken = _taken_from(function, function.args.kwarg.arg)
    names = {parameter.name for parameter in own} | _SET_BY_ADAPTER
    offered = (
        option for option in _constructor_options(network) if option.default is not REQUIRED or option.name in taken
    )
    own += [Parameter(option.name, option.annotation, OWN) for option in offered if option.name not in names]
    return tuple(own)


@cache
def _builders(package: str) -> dict[str, Path]:
    """Map the names of networks to the files that define them; files are searched as text, since parsing takes long."""
    root = module_file(package)
    files = sorted(root.parent.glob("*.py")) if root else []
    return {name: file for file in files for name in _BUILDER.findall(file.read_text(encoding="utf-8"))}


def _returned_class(definition: Definition) -> Definition | None:
    annotation = definition.node.returns if isinstance(definition.node, ast.FunctionDef) else None
    if isinstance(annotation, ast.Constant):
        return locate(definition.module, str(annotation.value))
    return locate(definition.module, annotation.id) if isinstance(annotation, ast.Name) else None


def _constructor_options(network: Definition) -> list[Parameter]:
    """List the parameters that a class's constructors name: its own, and its bases' where it passes others on."""
    found: dict[str, Parameter] = {}
    for constructor in constructors(network):
        for parameter in named_parameters(constructor, skip_first=True):
            found.setdefault(parameter.name, parameter)
        if constructor.args.kwarg is None:
            break
    return list(found.values())


def _taken_from(function: ast.FunctionDef, keywords: str) -> set[str]:
    """List the keys that a function reads from its ``**kwargs`` with `pop` or `get`."""
    found = set()
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="pop" | "get"),
                args=[ast.Constant(value=str(key)), *_],
            ) if name == keywords:
                found.add(key)
    return found
