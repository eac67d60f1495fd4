"""Float32 arithmetic of matrix products and convolutions: IEEE where truth is decided, TF32 where it need not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch

Float32 = Literal["ieee", "tf32"]

_BACKENDS: Any = torch.backends
_ON_CUDA = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn)
_ON_CPU = (_BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.rnn)
_SUMS = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction", "allow_fp16_accumulation")
"""Settings of CUDA's products in half precision, of a network that enters an autocast of its own."""


@contextmanager
def float32_arithmetic(precision: Float32 = "ieee") -> Iterator[None]:
    """Compute float32 products and convolutions as `precision` says inside, and restore the caller's settings after.

    By default cuDNN computes float32 convolutions in TF32, with 10 bits of mantissa. ``ieee`` forbids this, bfloat16
    products on the CPU, attention by products of several TF32 parts (CUTLASS's kernel on CUDA), sums of half-precision
    products in less than float32, and an autocast that the caller is in. ``tf32`` allows TF32 on CUDA only. A network
    that enters an autocast of its own still computes in it.
    """
    with ExitStack() as stack:
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        before, wanted = _settings(), _wanted(precision)
        # Most passes are inside another context with the same settings, and setting them takes 0.1 ms.
        if before != wanted:
            stack.callback(_set, before)
            _set(wanted)
        yield


def has_tf32_units(device: torch.device) -> bool:
    """Return whether a device multiplies float32 matrices in TF32: NVIDIA's from compute capability 8.0 on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def _wanted(precision: Float32) -> list[Any]:
    exact = precision == "ieee"
    products = "highest" if exact else "high"
    return [products, *[precision] * len(_ON_CUDA), *["ieee"] * len(_ON_CPU), *[not exact] * 2, False, not exact]


def _settings() -> list[Any]:
    return [
        torch.get_float32_matmul_precision(),
        *(operation.fp32_precision for operation in (*_ON_CUDA, *_ON_CPU)),
        *(getattr(_BACKENDS.cuda.matmul, name) for name in _SUMS),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
    ]


def _set(settings: list[Any]) -> None:
    products, *rest = settings
    # The older setting first: torch refuses CUDA products where it contradicts the newer ones, which it also sets.
    torch.set_float32_matmul_precision(products)
    for operation, value in zip((*_ON_CUDA, *_ON_CPU), rest[:6], strict=True):
        operation.fp32_precision = value
    for name, value in zip(_SUMS, rest[6:9], strict=True):
        setattr(_BACKENDS.cuda.matmul, name, value)
    torch.backends.cuda.enable_mem_efficient_sdp(rest[9])
