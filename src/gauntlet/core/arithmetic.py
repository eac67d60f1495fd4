"""Float32 arithmetic of matrix products and convolutions: IEEE where truth is decided, TF32 where it need not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch

Float32 = Literal["ieee", "tf32"]

_BACKENDS: Any = torch.backends
_ON_CUDA = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.conv, _BACKENDS.cudnn.rnn)
_ON_CPU = (_BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.conv, _BACKENDS.mkldnn.rnn)


@contextmanager
def float32_arithmetic(precision: Float32 = "ieee") -> Iterator[None]:
    """Compute float32 products and convolutions as `precision` says inside, and restore the caller's settings after.

    By default cuDNN computes float32 convolutions in TF32, with 10 bits of mantissa. ``ieee`` forbids this, bfloat16
    products on the CPU, and an autocast that the caller is in. ``tf32`` allows TF32 on CUDA only. A network that
    enters an autocast of its own still computes in it.
    """
    operations = (*_ON_CUDA, *_ON_CPU)
    before = [operation.fp32_precision for operation in operations]
    products_before = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        for device_type in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.callback(_set, operations, before, products_before)
        wanted = [precision] * len(_ON_CUDA) + ["ieee"] * len(_ON_CPU)
        _set(operations, wanted, "highest" if precision == "ieee" else "high")
        yield


def has_tf32_units(device: torch.device) -> bool:
    """Return whether a device multiplies float32 matrices in TF32: NVIDIA's from compute capability 8.0 on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)


def _set(operations: Sequence[Any], values: Sequence[str], products: str) -> None:
    # The older setting first: torch refuses CUDA products where it contradicts the newer ones, which it also sets.
    torch.set_float32_matmul_precision(products)
    for operation, value in zip(operations, values, strict=True):
        operation.fp32_precision = value
