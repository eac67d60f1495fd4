"""What a gradient attack ascends: a value per sample, and its derivative with respect to the outputs.

Steepest-ascent steps use only the direction of a sample's gradient, so a derivative is given up to a positive factor
per sample, chosen so that it cannot underflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from gauntlet.core.errors import InputError

Measure = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(outputs (B, K), labels (B,), targets (B,)) -> (B,)` or `(B, K)`; where there are no targets, the labels again."""


@dataclass(frozen=True)
class Objective:
    """A quantity to ascend, and its derivative with respect to the outputs, up to a positive factor per sample."""

    value: Measure
    derivative: Measure
    classes: int = 2
    """Classes that it needs at least."""

    def check(self, outputs: Tensor) -> None:
        """Raise InputError when outputs `(B, K)` have too few classes."""
        if outputs.shape[1] < self.classes:
            problem = f"this loss needs {self.classes} classes or more, the model has {outputs.shape[1]}"
            raise InputError(problem, where="loss", remedy="use margin or cross_entropy")


def _of(values: Tensor, classes: Tensor) -> Tensor:
    return values.gather(1, classes[:, None])[:, 0]


def _without(outputs: Tensor, classes: Tensor) -> Tensor:
    return outputs.scatter(1, classes[:, None], -torch.inf)


def _cross_entropy(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    return -_of(outputs.log_softmax(1), labels)


def _cross_entropy_derivative(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    # Divided by 1 - p_y: the quotient is softmax over the other classes minus the unit vector of the label, which
    # stays of size one where the softmax saturates and the plain derivative rounds to zero.
    return _without(outputs, labels).softmax(1).scatter(1, labels[:, None], -1.0)


def _margin(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    return _without(outputs, labels).amax(1) - _of(outputs, labels)


def _margin_derivative(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    rival = _without(outputs, labels).argmax(1, keepdim=True)
    return torch.zeros_like(outputs).scatter_(1, rival, 1.0).scatter_(1, labels[:, None], -1.0)


def _dlr(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    top = outputs.topk(3, dim=1).values
    return _margin(outputs, labels, targets) / _positive(top[:, 0] - top[:, 2])


def _targeted_cross_entropy(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return _of(outputs.log_softmax(1), targets)


def _targeted_cross_entropy_derivative(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return -_cross_entropy_derivative(outputs, targets, targets)


def _targeted_margin(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return _of(outputs, targets) - _of(outputs, labels)


def _targeted_margin_derivative(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros_like(outputs).scatter_(1, targets[:, None], 1.0).scatter_(1, labels[:, None], -1.0)


def _targeted_dlr(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    top = outputs.topk(4, dim=1).values
    return _targeted_margin(outputs, labels, targets) / _positive(top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]))


def _positive(spread: Tensor) -> Tensor:
    return spread.clamp(min=torch.finfo(spread.dtype).tiny)


def _by_autograd(value: Measure) -> Measure:
    def derivative(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(value(leaf, labels, targets).sum(), leaf)
        return gradient

    return derivative


OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "cross_entropy": Objective(_cross_entropy, _cross_entropy_derivative),
        # Carlini and Wagner 2017, f_6 without its floor.
        "margin": Objective(_margin, _margin_derivative),
        # Croce and Hein 2020, arXiv:2003.01690, equations 6 and 7.
        "dlr": Objective(_dlr, _by_autograd(_dlr), classes=3),
    }
)
"""Away from the label."""

TARGETED_OBJECTIVES: Mapping[str, Objective] = MappingProxyType(
    {
        "cross_entropy": Objective(_targeted_cross_entropy, _targeted_cross_entropy_derivative),
        # Gowal et al. 2019, arXiv:1910.09338: the target against the label alone.
        "margin": Objective(_targeted_margin, _targeted_margin_derivative),
        "dlr": Objective(_targeted_dlr, _by_autograd(_targeted_dlr), classes=4),
    }
)
"""Towards a target; `targets` are classes other than the labels."""


def likeliest_rivals(outputs: Tensor, labels: Tensor, count: int) -> Tensor:
    """Rank the `count` classes other than the label, highest output first: int64 `(B, count)`, fewer if there are."""
    return _without(outputs, labels).topk(min(count, outputs.shape[1] - 1), dim=1).indices
