"""Per-sample random draws for libraries that draw for a whole batch at once: each sample's key decides its draws."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gauntlet.core.randomness import derive_seed, integers, normal, uniform


class PerSampleDraws(TorchFunctionMode):
    """Mode in which `torch.rand`, `randn`, `randint` and their `_like` forms draw row b from `keys[b]` alone.

    `image_shape` (C, H, W) identifies the batch axis: in draws with more axes than a batch of images it is the axis
    before the image's, otherwise the first. A draw without a batch axis is shared by all samples: it depends on
    `stream` and the number of the draw, not on the batch. With `alone` (a batch of one) every draw is the sample's own.
    """

    def __init__(self, keys: Tensor, image_shape: Sequence[int], *, stream: str, alone: bool = False) -> None:
        super().__init__()
        self.keys, self.image_shape, self.stream, self.alone = keys, tuple(image_shape), stream, alone
        self.draws = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        replacement = _REPLACEMENTS.get(func)
        return func(*args, **kwargs) if replacement is None else replacement(self, *args, **kwargs)

    def draw(self, shape: Sequence[int], sample: Callable[[Tensor, Sequence[int], str], Tensor]) -> Tensor:
        """Draw a tensor of `shape` with `sample(keys (B,), shape per sample, stream) -> (B, ...)`."""
        stream = f"{self.stream}:{self.draws}"
        self.draws += 1
        axis = self._batch_axis(shape)
        if axis is None and self.alone:
            return sample(self.keys, shape, stream)[0]
        if axis is None:
            shared = torch.tensor([derive_seed("shared", stream)], device=self.keys.device)
            return sample(shared, shape, stream)[0]
        sample_shape = [*shape[:axis], *shape[axis + 1 :]]
        return sample(self.keys, sample_shape, stream).movedim(0, axis)

    def _batch_axis(self, shape: Sequence[int]) -> int | None:
        extra = len(shape) - len(self.image_shape) - 1
        # (D, 1) is a direction in pixel space (boundary attack), also when the batch happens to have D samples.
        if tuple(shape) == (math.prod(self.image_shape), 1):
            return None
        axis = max(extra, 0)
        return axis if len(shape) > axis and shape[axis] == len(self.keys) else None


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)


def _rand(mode: PerSampleDraws, *size: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return mode.draw(_shape(size), lambda k, s, n: uniform(k, s, stream=n, dtype=dtype or torch.float32))


def _randn(mode: PerSampleDraws, *size: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return mode.draw(_shape(size), lambda k, s, n: normal(k, s, stream=n, dtype=dtype or torch.float32))


def _rand_like(mode: PerSampleDraws, like: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _rand(mode, tuple(like.shape), dtype=dtype or like.dtype)


def _randn_like(mode: PerSampleDraws, like: Tensor, *, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return _randn(mode, tuple(like.shape), dtype=dtype or like.dtype)


def _randint(mode: PerSampleDraws, *args: Any, low: int = 0, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    *bounds, size = args
    start, stop = (low, bounds[0]) if len(bounds) == 1 else bounds
    offsets = mode.draw(tuple(size), lambda k, s, n: integers(k, s, stop - start, stream=n))
    return (offsets + start).to(dtype or torch.int64)


_REPLACEMENTS: dict[Any, Callable[..., Tensor]] = {
    torch.rand: _rand,
    torch.randn: _randn,
    torch.rand_like: _rand_like,
    torch.randn_like: _randn_like,
    torch.randint: _randint,
}


@contextlib.contextmanager
def numpy_seeded(key: int) -> Iterator[None]:
    """Seed numpy's global generator inside, for code that draws from it, and restore its state afterwards."""
    state = np.random.get_state()
    np.random.seed(derive_seed("numpy", key) & 0xFFFFFFFF)
    try:
        yield
    finally:
        np.random.set_state(state)
