"""Arithmetic of float32 products: IEEE inside the context, the caller's settings outside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gauntlet.core.arithmetic import float32_arithmetic
from tests.support.arithmetic import IEEE, arithmetic


@pytest.fixture(params=["default", "high", "medium, TF32 everywhere"])
def caller(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Settings of a caller, restored after the test."""
    before = arithmetic()
    if request.param != "default":
        torch.set_float32_matmul_precision(request.param.partition(",")[0])
    if "TF32" in request.param:
        torch.backends.cudnn.allow_tf32 = True
    yield arithmetic()
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for operation, value in zip(
        (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn), before, strict=False
    ):
        operation.fp32_precision = value  # type: ignore[attr-defined]
    for name, value in zip(("matmul", "conv", "rnn"), before[3:], strict=False):
        getattr(torch.backends.mkldnn, name).fp32_precision = value
    assert arithmetic() == before


def test_it_is_ieee_inside_and_the_callers_outside(caller: list[str]) -> None:
    """Also when nested, and when an exception leaves it."""
    with float32_arithmetic():
        assert arithmetic() == IEEE
        with float32_arithmetic("tf32"):
            assert arithmetic()[:3] == ["tf32"] * 3
            assert arithmetic()[3:6] == ["ieee"] * 3
        assert arithmetic() == IEEE
    assert arithmetic() == caller
    with pytest.raises(ValueError, match="out"), float32_arithmetic():
        raise ValueError("out")
    assert arithmetic() == caller


def test_an_autocast_of_the_caller_does_not_reach_inside() -> None:
    """Products are float32, and the autocast goes on afterwards."""
    factor = torch.rand(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with float32_arithmetic():
            assert (factor @ factor).dtype == torch.float32
        assert (factor @ factor).dtype == torch.bfloat16


def test_products_on_the_cpu_are_ieee() -> None:
    """Torch may be set to use the processor's bfloat16 units for float32, if it has any."""
    factor = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    expected = factor @ factor
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with float32_arithmetic():
            assert torch.equal(factor @ factor, expected)
    finally:
        torch.set_float32_matmul_precision(before)
