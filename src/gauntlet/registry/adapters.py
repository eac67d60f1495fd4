"""Components of other libraries, by names such as ``foolbox:LinfPGD``: read from their source as our own are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gauntlet.registry.source_code import (
    Definition,
    Parameter,
    class_attribute,
    exported,
    locate,
    optional_packages,
    parameters,
    with_bases,
)

FOOLBOX_STEP_SIZES = ("abs_stepsize", "stepsize", "initial_stepsize", "max_stepsize")
"""Parameters of Foolbox's classes that our option `step_size` sets: the first that a class has."""

FOOLBOX_WITHOUT_GRADIENT = (
    "Boundary",
    "HopSkipJump",
    "GenAttack",
    "Pointwise",
    "Noise",
    "Contrast",
    "Blur",
    "Inversion",
    "Binarization",
)
"""Parts of the names of Foolbox's classes that use no gradient."""

# Parameters that the adapter sets: the norm, and those that would let a sample's result depend on its batch.
_SET_BY_ADAPTER = frozenset({"distance", "constraint", "abort_early", "tensorboard"})
_FOOLBOX_SINGLE_STEP = frozenset(
    {"FGM", "FGSM", "L1FastGradientAttack", "L2FastGradientAttack", "LinfFastGradientAttack"}
)
# Parts of the names of Foolbox's classes with a known loss; the others have losses of their own.
_FOOLBOX_LOSSES = {
    **dict.fromkeys(
        ("ProjectedGradientDescent", "FastGradient", "BasicIterative", "DDN", "SparseL1Descent"), "cross_entropy"
    ),
    **dict.fromkeys(("CarliniWagner", "EAD", "FMN"), "margin"),
}
# The norm of this attack is its parameter `constraint`; its attribute `distance` differs.
_NORMS_BY_OPTION = {"HopSkipJumpAttack": ("l2", "linf")}


@dataclass(frozen=True)
class Adapter:
    """A prefix of names, such as ``foolbox:``, for the components of another library.

    `package` holds the library's classes; `module` is ours and offers ``adapt(name) -> component``; `tags` describes a
    class, or returns None for what is no component; `options` turns a definition's parameters into the options that
    a configuration may set, or returns None where any are accepted. `find` and `names` look up and list the definitions
    of a package.
    """

    package: str
    module: str
    tags: Callable[[Definition | None], dict[str, Any] | None]
    options: Callable[[Definition], tuple[Parameter, ...] | None]
    find: Callable[[str, str], Definition | None] = locate
    names: Callable[[str], list[str]] = exported


def foolbox_tags(definition: Definition | None) -> dict[str, Any] | None:
    """Return the kind of a Foolbox attack (bounded or minimum-norm), its norms and its access to the model.

    None for what is no attack, and for an attack without a norm (SpatialAttack: its budget is an angle and a shift).
    """
    if definition is None or not isinstance(definition.node, ast.ClassDef):
        return None
    bases = {owner.node.name for owner in with_bases(definition)}
    kinds = {"FixedEpsilonAttack": "bounded", "MinimizationAttack": "minimum_norm"}
    kind = next((kind for base, kind in kinds.items() if base in bases), None)
    if kind is None:
        return None
    name = definition.node.name
    if name in _NORMS_BY_OPTION:
        norms: tuple[str, ...] = _NORMS_BY_OPTION[name]
    elif "FlexibleDistanceMinimizationAttack" in bases:
        norms = ("l2", "linf", "l1", "l0")
    else:
        distance = class_attribute(definition, "distance")
        if distance is None:
            return None
        norms = (ast.unparse(distance).rpartition(".")[2],)
    gradient = not any(part in name for part in FOOLBOX_WITHOUT_GRADIENT)
    tags: dict[str, Any] = {"kind": kind, "norms": norms, "access": "gradient" if gradient else "scores"}
    if "Noise" in name and "Search" not in name:
        tags["search"] = "random"
    if name in _FOOLBOX_SINGLE_STEP:
        tags["steps"] = 1
    if "DeepFool" in name:
        tags["per_class"] = {"candidates": None}
    loss = next((loss for part, loss in _FOOLBOX_LOSSES.items() if part in name), None) if gradient else None
    if loss:
        tags["losses"] = (loss,)
    if packages := optional_packages(definition.file):
        tags["requires"] = packages
    return tags


def foolbox_names(package: str) -> list[str]:
    """List the Foolbox attacks that have a norm."""
    return [name for name in exported(package) if foolbox_tags(locate(package, name))]


def foolbox_options(definition: Definition) -> tuple[Parameter, ...] | None:
    """Return a Foolbox class's own parameters, and the options that all attacks share: `restarts`, `step_size`."""
    accepted = parameters(definition)
    if accepted is None:
        return None
    names = {parameter.name for parameter in accepted}
    shared = [Parameter("restarts", _annotation("PositiveInt"), 1)]
    if names & set(FOOLBOX_STEP_SIZES):
        shared.append(Parameter("step_size", _annotation("PositiveFloat | None"), None))
    own = (parameter for parameter in accepted if parameter.name not in _SET_BY_ADAPTER)
    return (*own, *(parameter for parameter in shared if parameter.name not in names))


def _annotation(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
