"""What the components of other libraries are, read from their source as our own are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gauntlet.registry.source_code import Located, Parameter, class_attribute, lineage

FOOLBOX_STEP_SIZES = ("abs_stepsize", "stepsize", "initial_stepsize", "max_stepsize")
"""What Foolbox's classes call a step size, in the order in which ours is given to them."""

# What the adapter sets itself: the norm, and what would tie a sample's result to the others of its batch.
_SET_BY_ADAPTER = frozenset({"distance", "constraint", "abort_early", "tensorboard"})
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

_FOOLBOX_SINGLE_STEP = frozenset(
    {"FGM", "FGSM", "L1FastGradientAttack", "L2FastGradientAttack", "LinfFastGradientAttack"}
)
# Which norm this attack works in is its option `constraint`; its `distance` attribute says something else.
_NORMS_BY_OPTION = {"HopSkipJumpAttack": ("l2", "linf")}


@dataclass(frozen=True)
class Adapter:
    """How names `prefix:NAME` reach another library.

    `package` is where its classes are; `module` is ours that adapts them and offers ``adapt(name) -> component``;
    `tags` says what a class is, or None where it is no component; `options` turns its constructor's parameters into the
    options that a configuration may give.
    """

    package: str
    module: str
    tags: Callable[[Located | None], dict[str, Any] | None]
    options: Callable[[tuple[Parameter, ...]], tuple[Parameter, ...]]


def foolbox_tags(located: Located | None) -> dict[str, Any] | None:
    """Read whether a Foolbox class is bounded or minimum-norm, and in which norms it measures.

    None for what is no attack, and for an attack without a norm (SpatialAttack: its budget is an angle and a shift).
    """
    if located is None or not isinstance(located.node, ast.ClassDef):
        return None
    bases = {owner.node.name for owner in lineage(located)}
    kinds = {"FixedEpsilonAttack": "bounded", "MinimizationAttack": "minimum_norm"}
    kind = next((kind for base, kind in kinds.items() if base in bases), None)
    if kind is None:
        return None
    if located.node.name in _NORMS_BY_OPTION:
        norms: tuple[str, ...] = _NORMS_BY_OPTION[located.node.name]
    elif "FlexibleDistanceMinimizationAttack" in bases:
        norms = ("l2", "linf", "l1", "l0")
    else:
        distance = class_attribute(located, "distance")
        if distance is None:
            return None
        norms = (ast.unparse(distance).rpartition(".")[2],)
    name = located.node.name
    gradient = not any(part in name for part in FOOLBOX_WITHOUT_GRADIENT)
    tags: dict[str, Any] = {"kind": kind, "norms": norms, "access": "gradient" if gradient else "scores"}
    if "Noise" in name and "Search" not in name:
        tags["search"] = "random"
    if name in _FOOLBOX_SINGLE_STEP:
        tags["steps"] = 1
    return tags


def foolbox_options(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """List a Foolbox class's own parameters and, beside them, the words all attacks share: `restarts`, `step_size`."""
    names = {parameter.name for parameter in parameters}
    shared = [Parameter("restarts", _annotation("PositiveInt"), 1)]
    if names & set(FOOLBOX_STEP_SIZES):
        shared.append(Parameter("step_size", _annotation("PositiveFloat | None"), None))
    own = (parameter for parameter in parameters if parameter.name not in _SET_BY_ADAPTER)
    return (*own, *(parameter for parameter in shared if parameter.name not in names))


def _annotation(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
