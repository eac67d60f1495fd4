"""Names of a checkpoint's tensors compared with those of a network, whatever wrappers added to them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_WRAPPERS = ("module", "_orig_mod")
"""Parts of names that `DataParallel`, `DistributedDataParallel`, `AveragedModel` and `torch.compile` insert."""
_COUNTERS = ("num_batches_tracked", "n_averaged")
"""Last parts of names of counters that decide no output in evaluation mode; older checkpoints lack them."""

_MAX_NAMES = 6
"""Number of names of each kind that a message lists."""

Spelling = Callable[[Iterable[str]], dict[str, str]]
"""Function from names to the same names, spelled in a way that two networks may share."""


@dataclass(frozen=True)
class Fit:
    """Tensors of a checkpoint by the names that a network has for them, and the names that do not fit.

    `reshaped` describes tensors of another shape or kind.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def problems(self) -> int:
        """Number of names that do not fit; zero if the checkpoint fits."""
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)

    @property
    def matches(self) -> tuple[int, int]:
        """Sort key of fits, the best last: the number of tensors that fit, then the fewest problems."""
        return len(self.tensors) - len(self.reshaped), -self.problems

    def describe(self) -> str:
        """Return the names that do not fit as text of one line."""
        parts = {"missing": self.missing, "unexpected": self.unexpected, "of another shape or kind": self.reshaped}
        return "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in parts.items() if names)


def fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> Fit:
    """Compare the tensors that a network expects with those that were found, under the spelling that fits best.

    Both sides are spelled without the parts that wrappers insert, without a first ``model``, or without the parts that
    all names begin with; a spelling that makes two names of one side equal is not used.
    """
    fits = []
    for spelling in (_as_written, _without_wrappers, _without_model, _without_beginning):
        ours, theirs = spelling(expected), spelling(found)
        if len(set(ours.values())) == len(ours) and len(set(theirs.values())) == len(theirs):
            fits.append(_compare(expected, found, ours, theirs))
    return min(fits, key=lambda candidate: candidate.problems)


def _compare(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], ours: Mapping[str, str], theirs: Mapping[str, str]
) -> Fit:
    name_of = {spelled: name for name, spelled in theirs.items()}
    pairs = {name: name_of[spelled] for name, spelled in ours.items() if spelled in name_of}
    pairs = {
        name: other for name, other in pairs.items() if not _is_counter(name) or _can_hold(expected[name], found[other])
    }
    loaded = {_memory(expected[name]) for name in pairs}
    # Of weights that layers share, a safetensors file has one name.
    missing = [
        name
        for name, tensor in expected.items()
        if name not in pairs and not _is_counter(name) and _memory(tensor) not in loaded
    ]
    used = set(pairs.values())
    unexpected = [name for name in found if name not in used and not _is_counter(name)]
    reshaped = [
        f"{name} ({_describe(found[other])} in place of {_describe(expected[name])})"
        for name, other in pairs.items()
        if not _can_hold(expected[name], found[other])
    ]
    return Fit(
        {name: found[other] for name, other in pairs.items()}, tuple(missing), tuple(unexpected), tuple(reshaped)
    )


def _as_written(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _without_wrappers(names: Iterable[str]) -> dict[str, str]:
    return {name: ".".join(_own_parts(name)) for name in names}


def _without_model(names: Iterable[str]) -> dict[str, str]:
    return {name: ".".join(_after_model(_own_parts(name))) for name in names}


def _without_beginning(names: Iterable[str]) -> dict[str, str]:
    """Leave out the first parts that all names share, counters of whole networks aside."""
    parts = {name: _own_parts(name) for name in names}
    begins = [path[:-1] for path in parts.values() if path[-1] not in _COUNTERS]
    columns = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*begins, strict=False))
    shared = sum(1 for _ in columns)
    return {name: ".".join(path[shared:] or path) for name, path in parts.items()}


def _own_parts(name: str) -> list[str]:
    parts = name.split(".")
    return [part for part in parts[:-1] if part not in _WRAPPERS] + parts[-1:]


def _after_model(parts: list[str]) -> list[str]:
    start = 0
    while start < len(parts) - 1 and parts[start] == "model":
        start += 1
    return parts[start:]


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTERS


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """Return the place of a tensor's values; a tensor without any has a place of its own."""
    return (tensor.data_ptr() or id(tensor), tensor.shape, tensor.stride())


def _can_hold(expected: Tensor, found: Tensor) -> bool:
    """Return whether a tensor can be copied into the expected one: equal shapes, plain, both floats or both not."""
    return (
        not _unusual(found)
        and found.shape == expected.shape
        and found.is_floating_point() == expected.is_floating_point()
    )


def _unusual(tensor: Tensor) -> str:
    """Return the kind of a tensor that is not dense and real, or has no values; else an empty text."""
    if tensor.layout != torch.strided:
        return "sparse"
    return (
        "quantized" if tensor.is_quantized else "complex" if tensor.is_complex() else "meta" if tensor.is_meta else ""
    )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _describe(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "one value"
    return " ".join(filter(None, (shape, _unusual(tensor), str(tensor.dtype).removeprefix("torch."))))
