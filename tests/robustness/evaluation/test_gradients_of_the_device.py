"""Gradients that fail on the device: the error names operation and layer, and does not blame the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.device_errors import DeviceError, NonDeterministicError
from gauntlet.core.errors import InputError
from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate

IMAGES, LABELS = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
ATTACK = AttackSettings("a", Spec("pgd", {"steps": 2}), "linf", (0.1,))


class Failing(torch.autograd.Function):
    """The identity, whose backward pass fails as a kernel on a GPU does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, message: str) -> Tensor:
        """Return the images."""
        ctx.message = message
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Raise an error."""
        raise RuntimeError(ctx.message)


class AveragePool(nn.AdaptiveAvgPool2d):
    """A pool of one's own, whose backward pass fails."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message

    def forward(self, x: Tensor) -> Tensor:
        """Pool the images."""
        result: Tensor = Failing.apply(super().forward(x), self.message)
        return result


@pytest.mark.parametrize(
    ("message", "kind", "problem"),
    [
        (
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'.",
            NonDeterministicError,
            r"^adaptive_avg_pool2d_backward_cuda in layers 0\.1 \(AveragePool\), 1 \(AdaptiveAvgPool2d\) has no",
        ),
        (
            "CUDA error: an illegal memory access was encountered",
            DeviceError,
            "^a kernel failed on the device: an",
        ),
        ("a view of a leaf is modified in place", InputError, r"^the model has no gradient \(a view of a leaf"),
    ],
)
def test_the_failure_of_a_backward_pass_is_reported_as_what_it_is(
    message: str, kind: type[Exception], problem: str
) -> None:
    """All layers that compute the operation are named, since a backward pass does not say which of them failed."""
    pools = nn.Sequential(nn.Identity(), AveragePool(message)), nn.AdaptiveAvgPool2d(2)
    network = nn.Sequential(*pools, nn.Flatten(), nn.Linear(4, 4)).eval()
    with pytest.raises(kind, match=problem):
        evaluate(network, IMAGES, LABELS, ATTACK, identity=CellIdentity())
