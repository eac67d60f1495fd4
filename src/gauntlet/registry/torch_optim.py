"""Optimizers of `torch.optim`, read from its source: which classes there are, and what their options are."""

from __future__ import annotations

import ast
from typing import Any

from gauntlet.registry.source_code import Definition, Parameter, exported, locate, parameters, with_bases

_UNSUITED = frozenset({"Optimizer", "LBFGS", "SparseAdam", "Muon"})
"""Classes that need a closure, sparse gradients, or matrices only."""

_SET_BY_TRAINING = frozenset({"params", "maximize", "foreach", "capturable", "differentiable", "fused"})
"""Parameters that choose an implementation, or that training sets."""


def optimizer_tags(definition: Definition | None) -> dict[str, Any] | None:
    """Return the tags of an optimizer; None for what is no optimizer, or none that training can use."""
    if definition is None or not isinstance(definition.node, ast.ClassDef) or definition.node.name in _UNSUITED:
        return None
    return {"library": "torch"} if "Optimizer" in {owner.node.name for owner in with_bases(definition)} else None


def optimizer_names(package: str) -> list[str]:
    """List the optimizers that training can use."""
    return [name for name in exported(package) if optimizer_tags(locate(package, name)) is not None]


def optimizer_options(definition: Definition) -> tuple[Parameter, ...] | None:
    """Return the parameters that a configuration may set, with numbers in place of tensors; None where all are."""
    accepted = parameters(definition)
    if accepted is None:
        return None
    return tuple(
        Parameter(parameter.name, _annotation(parameter), parameter.default)
        for parameter in accepted
        if parameter.name not in _SET_BY_TRAINING
    )


def _annotation(parameter: Parameter) -> ast.expr | None:
    if parameter.name == "lr":
        return ast.Name("PositiveFloat")
    annotation = parameter.annotation
    return None if annotation is None else _WithoutTensors().visit(ast.parse(ast.unparse(annotation), mode="eval").body)


class _WithoutTensors(ast.NodeTransformer):
    """Replacement of ``float | Tensor`` by ``float``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Return one side of a union whose other side is a tensor."""
        left, right = self.visit(node.left), self.visit(node.right)
        kept = [side for side in (left, right) if not (isinstance(side, ast.Name) and side.id == "Tensor")]
        return ast.BinOp(left, node.op, right) if len(kept) == 2 else kept[0]
