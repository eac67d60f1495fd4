"""Losses that gradient attacks ascend, and their derivatives with respect to the outputs.

Attacks use only the direction of a sample's gradient, and the order of its losses: a derivative is exact up to a
positive factor per sample, and a value up to an increasing function, both chosen so that neither can underflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from gauntlet.core.errors import InputError

LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(outputs (B, K), labels (B,), targets (B,)) -> (B,)` or `(B, K)`; without targets, the labels are passed twice."""


@dataclass(frozen=True)
class AttackLoss:
    """A loss per sample `(B,)` and its derivative `(B, K)`, for models with at least `min_classes` classes.

    `of_raw_outputs` marks a function of the network's raw outputs, which training losses are, instead of its logits.
    """

    value: LossFunction
    derivative: LossFunction
    min_classes: int = 2
    of_raw_outputs: bool = False

    def check(self, outputs: Tensor) -> None:
        """Raise InputError when outputs `(B, K)` have too few classes."""
        if outputs.shape[1] < self.min_classes:
            problem = f"this loss needs {self.min_classes} classes or more, the model has {outputs.shape[1]}"
            raise InputError(problem, where="loss", remedy="use margin or cross_entropy")


def _of(outputs: Tensor, classes: Tensor) -> Tensor:
    return outputs.gather(1, classes[:, None])[:, 0]


def _without(outputs: Tensor, classes: Tensor) -> Tensor:
    return outputs.scatter(1, classes[:, None], -torch.inf)


def _cross_entropy(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    # The logit u of 1 - p_y: the cross-entropy is log(1 + exp(u)), which increases with u, and which rounds to 0 at
    # every point where the softmax saturates.
    return _without(outputs, labels).logsumexp(1) - _of(outputs, labels)


def _cross_entropy_derivative(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    # Divided by 1 - p_y: the softmax over the other classes minus the label's unit vector. Its size stays one where
    # the softmax saturates and the plain derivative rounds to zero.
    return _without(outputs, labels).softmax(1).scatter(1, labels[:, None], -1.0)


def _margin(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    return _without(outputs, labels).amax(1) - _of(outputs, labels)


def _margin_derivative(outputs: Tensor, labels: Tensor, _targets: Tensor) -> Tensor:
    runner_up = _without(outputs, labels).argmax(1, keepdim=True)
    return torch.zeros_like(outputs).scatter_(1, runner_up, 1.0).scatter_(1, labels[:, None], -1.0)


def _dlr(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    top = outputs.topk(3, dim=1).values
    return _margin(outputs, labels, targets) / _positive(top[:, 0] - top[:, 2])


def _targeted_cross_entropy(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return -_cross_entropy(outputs, targets, targets)


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


def _by_autograd(value: LossFunction) -> LossFunction:
    def derivative(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(value(leaf, labels, targets).sum(), leaf)
        # Where the logits of the ratio's denominator are equal, the derivative is so large that a layer would overflow.
        largest = gradient.abs().amax(1, keepdim=True)
        return gradient / torch.where(largest > 0, largest, 1.0)

    return derivative


UNTARGETED_LOSSES: Mapping[str, AttackLoss] = MappingProxyType(
    {
        "cross_entropy": AttackLoss(_cross_entropy, _cross_entropy_derivative),
        # Carlini and Wagner 2017, arXiv:1608.04644, f_6 without its floor.
        "margin": AttackLoss(_margin, _margin_derivative),
        # Croce and Hein 2020, arXiv:2003.01690, equation 6.
        "dlr": AttackLoss(_dlr, _by_autograd(_dlr), min_classes=3),
    }
)
"""Losses that rise as the label's output loses."""

TARGETED_LOSSES: Mapping[str, AttackLoss] = MappingProxyType(
    {
        "cross_entropy": AttackLoss(_targeted_cross_entropy, _targeted_cross_entropy_derivative),
        # Gowal et al. 2019, arXiv:1910.09338: the target's logit minus the label's.
        "margin": AttackLoss(_targeted_margin, _targeted_margin_derivative),
        # Croce and Hein 2020, arXiv:2003.01690, equation 7.
        "dlr": AttackLoss(_targeted_dlr, _by_autograd(_targeted_dlr), min_classes=4),
    }
)
"""Losses that rise as the target's output wins; targets differ from the labels."""


def likeliest_targets(outputs: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the `count` classes with the highest outputs, label excluded: int64 `(B, count)`, at most `(B, K - 1)`."""
    return _without(outputs, labels).topk(min(count, outputs.shape[1] - 1), dim=1).indices
