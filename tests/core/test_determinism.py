"""Deterministic kernels, and errors about operations that have none."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.determinism import CUBLAS_WORKSPACE, set_determinism, set_threads
from gauntlet.core.device_errors import (
    DeviceError,
    NonDeterministicError,
    device_error,
    device_errors_reported,
    is_out_of_memory,
)
from gauntlet.core.errors import GauntletError, InputError

NO_KERNEL = (
    "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
    "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation."
)
CUBLAS = (
    "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
    "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses CuBLAS "
    "and you have CUDA >= 10.2."
)


@pytest.fixture(autouse=True)
def workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No workspace of cuBLAS in the environment, before or after."""
    monkeypatch.setenv(CUBLAS_WORKSPACE, "removed below, restored after the test")
    monkeypatch.delenv(CUBLAS_WORKSPACE)


def test_gradients_of_indexed_tensors_are_summed_in_one_order() -> None:
    """On the CPU too: with two threads, repeated runs differ without deterministic kernels."""
    random = torch.Generator().manual_seed(0)
    index, factor = torch.randint(0, 7, (200_000,), generator=random), torch.randn(200_000, generator=random)
    x = torch.randn(7, generator=random, requires_grad=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    set_determinism(True)
    try:
        found = {tuple(torch.autograd.grad((x[index] * factor).sum(), x)[0].tolist()) for _ in range(20)}
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


@pytest.mark.parametrize(("mode", "debug", "chooses"), [(True, 2, False), ("warn", 1, False), (False, 0, True)])
def test_the_modes_set_torch(mode: bool | str, debug: int, chooses: bool) -> None:
    """Kernels of cuDNN are chosen by measurement only where the fastest may be used; memory is never filled."""
    set_determinism(mode)  # type: ignore[arg-type]
    assert torch.get_deterministic_debug_mode() == debug
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (chooses, not chooses)
    assert not torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    assert os.environ.get(CUBLAS_WORKSPACE) == (":4096:8" if mode is True else None)


def test_a_workspace_of_the_user_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes make cuBLAS deterministic."""
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    set_determinism(True)
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":4096:2")
    with pytest.raises(
        InputError, match=r"execution\.deterministic: cuBLAS is not deterministic with .*:4096:2; unset"
    ):
        set_determinism(True)
    set_determinism("warn")


def test_the_operation_and_its_layer_are_named() -> None:
    """The layer is the innermost that the error passed through."""
    set_determinism(True)

    class Unpool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.max_unpool2d(*nn.functional.max_pool2d(x, 2, return_indices=True), 2)

    network = nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(), Unpool()))
    with (
        pytest.raises(NonDeterministicError, match=r"^max_unpooling2d_forward_out in layer 1\.1 \(Unpool\) has no det"),
        device_errors_reported(),
    ):
        network(torch.rand(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RuntimeError(NO_KERNEL), NonDeterministicError, "^adaptive_avg_pool2d_backward_cuda has no deterministic ker"),
        (RuntimeError(CUBLAS), NonDeterministicError, "set CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"),
        (
            torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported"),
            DeviceError,
            "a kernel failed on the device: device-side assert triggered; often an index out of range",
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceError, "illegal memory access"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), None, ""),
        (ValueError("CUDA error: in the text of another error"), None, ""),
    ],
)
def test_errors_of_the_device_are_not_those_of_a_model(
    error: Exception, kind: type[GauntletError] | None, message: str
) -> None:
    """Each is one line; everything else is left to the caller."""
    assert not is_out_of_memory(error)
    found = device_error(error)
    if kind is None:
        assert found is None
        return
    assert type(found) is kind
    assert found.exit_code == (2 if kind is NonDeterministicError else 1)
    with pytest.raises(kind, match=message), device_errors_reported():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
        RuntimeError("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_ran_out_is_recognized(error: Exception) -> None:
    """In every form in which libraries report it; uncaught, it is one line."""
    assert is_out_of_memory(error)
    with pytest.raises(GauntletError, match="memory ran out"), device_errors_reported():
        raise error


def test_memory_that_really_runs_out_is_recognized() -> None:
    """An allocation that no machine can make."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(("asked", "used"), [("3", 3), ("1", 1), (None, 2), ("", 2), ("0", 2), ("4,2", 2), ("many", 2)])
def test_threads_are_those_that_were_asked_for(asked: str | None, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than there are cores, too; without a number, torch keeps its own."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        set_threads()
        assert torch.get_num_threads() == used
    finally:
        torch.set_num_threads(threads)
