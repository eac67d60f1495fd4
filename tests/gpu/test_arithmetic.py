"""Arithmetic on a GPU: IEEE float32 where truth is decided, whatever torch's settings are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic, has_tf32_units
from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings
from gauntlet.robustness.evaluation.precision import choose_precision
from gauntlet.robustness.judge import Judge


class Mixed(nn.Module):
    """Convolutions, attention, a recurrent layer and products: every kind of operation that may use TF32."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, stride=2))
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.recurrent, self.head = nn.GRU(64, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        tokens = self.convolutions(x).flatten(2).mT
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        logits: Tensor = self.head(self.recurrent(tokens + attended)[0][:, -1])
        return logits


@pytest.fixture(params=["defaults", "TF32 everywhere"])
def caller(request: pytest.FixtureRequest) -> Iterator[None]:
    """Settings of a caller."""
    if request.param != "defaults":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision("highest")


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network, images and its exact logits."""
    torch.manual_seed(0)
    network = Mixed().eval()
    images = torch.rand(32, 3, 16, 16)
    exact = Judge(network, device=torch.device("cpu"), dtype=torch.float64).logits(images)
    return network, images, exact


def error(logits: Tensor, exact: Tensor) -> float:
    """Return the largest error, as a share of the largest logit."""
    return float((logits.cpu().double() - exact).abs().max() / exact.abs().max())


@pytest.mark.usefixtures("caller")
def test_the_judge_equals_float64_within_rounding(device: torch.device) -> None:
    """Convolutions, attention, recurrent layers and products; TF32 would be wrong by a thousand times as much."""
    network, images, exact = problem()
    assert error(Judge(network, device=device).logits(images), exact) < 2e-6


def test_tf32_is_seen_by_this_comparison(gpu: torch.device) -> None:
    """The same passes in TF32 have errors that the judge's must not have."""
    if not has_tf32_units(gpu):
        pytest.skip("this GPU has no TF32")
    network, images, exact = problem()
    with torch.no_grad(), float32_arithmetic("tf32"):
        assert error(network.to(gpu)(images.to(gpu)), exact) > 2e-5


def test_attacks_use_the_fast_units_that_the_gpu_has(gpu: torch.device) -> None:
    """Directions of gradients in bfloat16, all else in TF32."""
    if not has_tf32_units(gpu):
        pytest.skip("this GPU has neither")
    network, images, exact = problem()
    labels = exact.argmax(1)
    attacks = [AttackSettings("a", Spec(name, {}), "linf", (0.1,)) for name in ("pgd", "apgd")]
    chosen = [choose_precision("auto", attack, network, images, labels, device=gpu) for attack in attacks]
    assert chosen == ["bfloat16", "tf32"]
