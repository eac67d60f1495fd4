"""Means over several passes of a random network, whose draws are addressed: they depend on an image's content alone.

A pass runs under a dispatch mode of torch that intercepts every random operation. A tensor with a dimension of the
batch's size is drawn image by image, from the image's content, the stream, the draw and the number of the operation.
Any other tensor, such as the size that all images are scaled to, is drawn from stream, draw and operation. So a row
depends neither on the other images of the batch nor on its position.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gauntlet.core.randomness import content_keys, derive_seed, normal, subkeys, uniform
from gauntlet.core.seeding import reseed, reseed_all, seeded
from gauntlet.robustness.networks import Forward, offered_surrogates

_ROWS = (127, 61, 31, 23, 19)
"""Rows per pass, each an image and a draw; the first, or fewer where memory is short. All passes have as many, so that
they round alike. Few layers have a size that one of them divides, which would be taken for the batch's dimension; many
have a size that a smaller number divides."""
_ROWS_OF_ONE_DRAW = 31
"""Rows per pass where all images share draws."""


def mean_logits(outputs: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean probability over several outputs `(B, K)`; a single one is returned as it is."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack([output.log_softmax(1) for output in outputs]).logsumexp(0) - math.log(len(outputs))


def mean_over_draws(forward: Forward, x: Tensor, *, draws: int, stream: str, most_rows: int | None = None) -> Tensor:
    """Return `mean_logits` of `draws` addressed passes, `(B, K)`, for images `(B, C, H, W)`; differentiable.

    Passes of another `stream` draw other numbers. `most_rows` is the number of rows of a pass that fit into memory,
    None if nothing is known; passes have at least 19.
    """
    if not len(x):
        return mean_over_draws(forward, x.new_zeros(1, *x.shape[1:]), draws=1, stream=stream, most_rows=most_rows)[:0]
    rows = next((number for number in _ROWS if most_rows is None or number <= most_rows), _ROWS[-1])
    with seeded(0, x.device):
        keys = subkeys(content_keys(x), draws, stream=stream)
        try:
            outputs = _draws_side_by_side(forward, x, keys, rows)
        except _SharedDrawError:
            outputs = _draws_one_by_one(forward, x, keys, stream, min(rows, _ROWS_OF_ONE_DRAW))
    return mean_logits(outputs)


class _SharedDrawError(Exception):
    """A draw for all images at once, in a pass with several draws."""


def _draws_side_by_side(forward: Forward, x: Tensor, keys: Tensor, rows: int) -> Sequence[Tensor]:
    """Return outputs `(B, K)` per draw; a pass takes images and draws as they come. Raises _SharedDrawError."""
    count, draws = keys.shape
    images = torch.arange(count, device=x.device).repeat_interleave(draws)
    outputs: list[Tensor] = []
    flat = keys.flatten()
    for start in range(0, len(flat), rows):
        part = torch.arange(start, start + rows, device=x.device)
        part = torch.where(part < len(flat), part, start)  # The last pass is filled up with its first row.
        reseed_all(0, x.device)
        before = _other_states()
        with _AddressedDraws(flat[part], None, x.device):
            outputs.append(forward(x[images[part]])[: min(rows, len(flat) - start)])
        if _other_states() != before:
            raise _SharedDrawError
    joined: Sequence[Tensor] = torch.cat(outputs).unflatten(0, (count, draws)).unbind(1)
    return joined


def _draws_one_by_one(forward: Forward, x: Tensor, keys: Tensor, stream: str, rows: int) -> Sequence[Tensor]:
    """Return outputs `(B, K)` per draw; the draws of a pass that are not per image depend on stream and draw alone."""
    outputs = []
    for draw in range(keys.shape[1]):
        parts = []
        for start in range(0, len(x), rows):
            part = torch.arange(start, start + rows, device=x.device)
            part = torch.where(part < len(x), part, start)
            address = f"{stream}:{draw}"
            reseed_all(derive_seed("draw", address), x.device)
            with _AddressedDraws(keys[part, draw], address, x.device):
                parts.append(forward(x[part])[: min(rows, len(x) - start)])
        outputs.append(torch.cat(parts))
    return outputs


def _other_states() -> tuple[Any, ...]:
    """Return the states of NumPy's and Python's generators."""
    _, numbers, position, *rest = np.random.get_state()
    return bytes(np.asarray(numbers)), position, *rest, random.getstate()


class MeanNetwork(nn.Module):
    """The mean of a random network over addressed passes: a network whose outputs depend on the image alone."""

    def __init__(self, network: nn.Module, *, draws: int, stream: str = "probe") -> None:
        super().__init__()
        self.network, self.draws, self.stream = network, draws, stream
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to the logarithm of the mean probability, `(B, K)`."""
        return mean_over_draws(self.network, x, draws=self.draws, stream=self.stream)

    @property
    def surrogates(self) -> dict[str, Forward]:
        """Return the network's surrogates by name, each the mean over as many passes."""

        def averaged(surrogate: Forward) -> Forward:
            return lambda x: mean_over_draws(surrogate, x, draws=self.draws, stream=self.stream)

        return {name: averaged(surrogate) for name, surrogate in offered_surrogates(self.network).items()}


class DispatchMode(TorchDispatchMode):
    """Interception of torch's operations that does not load torch's compiler, which takes seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class RandomOperations(DispatchMode):
    """Record of whether a random operation of torch ran."""

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and note whether it is random."""
        self.found = self.found or torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **dict(kwargs or {}))


class _AddressedDraws(DispatchMode):
    """Interception of torch's random operations, each drawn per row where it has a dimension for the rows.

    `keys` are those of the rows, `address` that of draws for all rows, which raise _SharedDrawError if it is None.
    """

    def __init__(self, keys: Tensor, address: str | None, device: torch.device) -> None:
        super().__init__()
        self.keys, self.address, self.device, self.operations = keys, address, device, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation, a random one with addressed draws."""
        named = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **named)
        if "generator" in named:
            named["generator"] = None  # A generator of the network's own would make a row depend on earlier passes.
        self.operations += 1
        stream = f"operation:{self.operations}"
        shape = _drawn_shape(args)
        count = len(self.keys)
        dimension = next((d for d, size in enumerate(shape) if size == count), None)
        if dimension is None:
            dimension = next((d for d, size in enumerate(shape) if size and size % count == 0), None)
        if dimension is None:
            if self.address is None:
                raise _SharedDrawError
            reseed(derive_seed("shared", self.address, self.operations), self.device)
            return func(*args, **named)
        own_shape = (*shape[:dimension], shape[dimension] // count, *shape[dimension + 1 :])
        draw = _QUICK_DRAWS.get(func._schema.name)
        if draw is not None and math.prod(own_shape) <= _QUICK_SIZE and not any(map(_is_tensor, args[1:])):
            values = draw(self.keys, own_shape, stream, args).movedim(0, dimension).reshape(shape)
            if func._schema.name == "aten::bernoulli":
                # Of two forms, one has the probability of each value, the other one probability next to a tensor.
                values = values < (args[1] if len(args) > 1 else args[0])
            return func(*args, **named).copy_(values)
        results = []
        for image, seed in enumerate(subkeys(self.keys, 1, stream=stream)[:, 0].tolist()):
            reseed(seed, self.device)
            own = _rows_of(args, shape, dimension, image, own_shape)
            results.append(func(*own, **named))
        return args[0] if func._schema.is_mutable else _joined(results, dimension)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _below(keys: Tensor, shape: Sequence[int], stream: str, args: Sequence[Any]) -> Tensor:
    return uniform(keys, shape, stream=stream) < (args[1] if len(args) > 1 else 0.5)


def _uniform(keys: Tensor, shape: Sequence[int], stream: str, args: Sequence[Any], low: int) -> Tensor:
    """Draw between the bounds at `args[low]` and after it; 0 and 1 where an operation leaves them out."""
    bounds = [*args[low : low + 2], *(0.0, 1.0)[len(args[low : low + 2]) :]] if low else [0.0, 1.0]
    return uniform(keys, shape, stream=stream, low=bounds[0], high=bounds[1])


_QUICK_SIZE = 4096
"""Largest number of values per image that are hashed for all images at once; larger ones are drawn one by one."""
_QUICK_DRAWS: Mapping[str, Callable[[Tensor, Sequence[int], str, Sequence[Any]], Tensor]] = {
    "aten::randn": lambda keys, shape, stream, _args: normal(keys, shape, stream=stream),
    "aten::randn_like": lambda keys, shape, stream, _args: normal(keys, shape, stream=stream),
    "aten::rand": lambda keys, shape, stream, args: _uniform(keys, shape, stream, args, 0),
    "aten::rand_like": lambda keys, shape, stream, args: _uniform(keys, shape, stream, args, 0),
    "aten::bernoulli": lambda keys, shape, stream, args: _uniform(keys, shape, stream, args, 0),
    "aten::bernoulli_": _below,
    "aten::uniform_": lambda keys, shape, stream, args: _uniform(keys, shape, stream, args, 1),
}


def _drawn_shape(args: Sequence[Any]) -> tuple[int, ...]:
    """Return the shape of a random operation's first tensor, or the shape that it is given."""
    for value in args:
        if isinstance(value, Tensor):
            return tuple(value.shape)
        if isinstance(value, list | tuple) and all(isinstance(size, int) for size in value):
            return tuple(value)
    return ()


def _rows_of(
    args: Sequence[Any], shape: tuple[int, ...], dimension: int, image: int, own_shape: tuple[int, ...]
) -> list[Any]:
    """Return arguments for one image: tensors of the drawn size are narrowed, the shape itself is replaced."""
    length = own_shape[dimension]

    def argument(value: Any) -> Any:
        if isinstance(value, list | tuple) and tuple(value) == shape:
            return list(own_shape)
        if isinstance(value, Tensor) and value.dim() > dimension and value.shape[dimension] == shape[dimension]:
            return value.narrow(dimension, image * length, length)
        return value

    return [argument(value) for value in args]


def _joined(results: Sequence[Any], dimension: int) -> Any:
    """Join the results for single images: tensors along the dimension, the parts of a tuple one by one."""
    first = results[0]
    if isinstance(first, tuple):
        return tuple(_joined(parts, dimension) for parts in zip(*results, strict=True))
    if isinstance(first, Tensor) and first.dim() > dimension:
        return torch.cat(list(results), dimension)
    return first
