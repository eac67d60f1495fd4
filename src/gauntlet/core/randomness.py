"""Random draws by address: each is a pure function of its purpose, independent of global state and of other draws.

Training draws from generators seeded by an address such as ``("train", seed, "order", epoch)``. Attacks draw per
sample: the content of sample i gives it a 64-bit key, and its draws are a hash of (key, stream, counter), so they do
not depend on batch size, order, device or shard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gauntlet.core.addresses import derive_seed as derive_seed

# Constants of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), as signed 64 bit.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)

_CACHED = 1 << 15
"""Numbers that are drawn at once on a CPU, so that intermediate results stay in its cache."""


def generator(*address: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a generator whose stream depends on `address` alone."""
    return torch.Generator(device=device).manual_seed(derive_seed(*address))


def sample_keys(seed: int, stage: str, hashes: Sequence[str], *, device: str | torch.device = "cpu") -> Tensor:
    """Return a key per sample, from the hash of its content: int64 `(N,)`."""
    return torch.tensor([derive_seed(stage, seed, name) for name in hashes], dtype=torch.int64, device=device)


def content_keys(x: Tensor) -> Tensor:
    """Hash the content of each image `(B, C, H, W)`, as float32 bit by bit, to a key: int64 `(B,)`."""
    bits = (x.detach().to(torch.float32) + 0.0).reshape(len(x), -1).contiguous().view(torch.int32).to(torch.int64)
    position = torch.arange(1, bits.shape[1] + 1, dtype=torch.int64, device=x.device) * _GAMMA
    return _mix((bits * (_mix(position) | 1)).sum(1))


def subkeys(keys: Tensor, count: int, *, stream: str | int) -> Tensor:
    """Derive `count` keys from each key, int64 `(B,)`, one per draw of a sample: int64 `(B, count)`.

    The first keys are the same for any larger `count`.
    """
    return _bits(keys, (count,), stream)


def uniform(
    keys: Tensor,
    shape: Sequence[int],
    *,
    stream: str | int,
    low: float = 0.0,
    high: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Sample `(B, *shape)` numbers uniform in [low, high), row b from `keys[b]` (int64 `(B,)`) and `stream` alone."""
    # 24 bits fill a float32 mantissa exactly, so that float32 and float64 draws are the same numbers.
    unit = (_bits(keys, shape, stream) >> 40 & 0xFFFFFF).to(torch.float64) / float(1 << 24)
    return (low + (high - low) * unit).to(dtype)


def normal(keys: Tensor, shape: Sequence[int], *, stream: str | int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sample `(B, *shape)` standard normal numbers by the Box-Muller transform, row b from `keys[b]` and `stream`."""
    values = torch.empty((len(keys), *shape), dtype=dtype, device=keys.device)
    rows = len(keys) if keys.device.type != "cpu" else max(1, _CACHED // max(1, math.prod(shape)))
    for start in range(0, len(keys), max(1, rows)):
        part = slice(start, start + rows)
        low = _bits(keys[part], shape, stream)
        high = _shift_right(low, 32).to(torch.float64).add_(0.5).mul_(2.0**-32)
        angle = low.bitwise_and_(0xFFFFFFFF).to(torch.float64).mul_(2 * math.pi * 2.0**-32)
        values[part] = high.log_().mul_(-2).sqrt_().mul_(angle.cos_())
    return values


def integers(keys: Tensor, shape: Sequence[int], high: int, *, stream: str | int) -> Tensor:
    """Sample `(B, *shape)` int64 numbers uniform in [0, high), for high up to 2^24."""
    return (uniform(keys, shape, stream=stream, dtype=torch.float64) * high).to(torch.int64)


def _bits(keys: Tensor, shape: Sequence[int], stream: str | int) -> Tensor:
    """Hash (key, stream, counter) to 64 bits each: int64 `(B, *shape)`."""
    size = math.prod(shape)
    counter = torch.arange(1, size + 1, dtype=torch.int64, device=keys.device) * _GAMMA
    start = _mix(keys + _signed(derive_seed("stream", stream)))
    return _mix(start[:, None] + counter[None, :]).reshape(len(keys), *shape)


def _mix(state: Tensor) -> Tensor:
    """Mix 64-bit states, in place; return them."""
    state.bitwise_xor_(_shift_right(state, 30)).mul_(_MIX_1)
    state.bitwise_xor_(_shift_right(state, 27)).mul_(_MIX_2)
    return state.bitwise_xor_(_shift_right(state, 31))


def _shift_right(value: Tensor, places: int) -> Tensor:
    """Shift without the sign: torch's int64 shift is arithmetic."""
    return (value >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
