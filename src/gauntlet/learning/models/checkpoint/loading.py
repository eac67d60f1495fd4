"""Weights of a checkpoint loaded into a network: every tensor of both, or an error that names those that do not fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.models.build import ImportedNetwork
from gauntlet.learning.models.checkpoint.entries import Entry, find_entries, parts_of, select_entry
from gauntlet.learning.models.checkpoint.fitting import Fit, fit
from gauntlet.learning.models.checkpoint.reading import Checkpoint, read_checkpoint
from gauntlet.learning.models.network import Network

log = logging.getLogger("gauntlet")


def load_weights(model: nn.Module, path: Path | str, *, entry: str | None = None, digest: str | None = None) -> str:
    """Load a checkpoint into a model, without executing anything in the file; return the entry that it was read from.

    The file is one of safetensors, or of `torch.save`. The state dict is found wherever it is nested in the file
    (``state_dict``, ``model``, …), whatever wrappers added to its names (``module.``, ``_orig_mod.``, ``model.``);
    averaged weights (``ema``, ``swa``) are preferred, with a warning that names the others. `entry` names the place
    instead, such as ``state_dict``. With `digest`, a file of another SHA-256 is refused. The mode and device of the
    model stay as they are.

    Raises InputError that names all missing and unexpected tensors and those of another shape; nothing is loaded then.
    """
    return load_checkpoint(model, read_checkpoint(Path(path), digest=digest), entry=entry)


def load_checkpoint(model: nn.Module, checkpoint: Checkpoint, *, entry: str | None = None) -> str:
    """Load a checkpoint that was read into a model; arguments, result and errors are those of `load_weights`."""
    fitted = [
        (found, target, fit(_expected(target), found.tensors)) for found, target in _pairs(model, checkpoint, entry)
    ]
    exact = [(found, target, match) for found, target, match in fitted if not match.problems]
    if not exact:
        raise _misfit(model, checkpoint, max(fitted, key=lambda candidate: candidate[2].matches))
    found, target, match = _choose(checkpoint, exact)
    _check_statistics(target, match, checkpoint)
    try:
        target.load_state_dict({**target.state_dict(), **match.tensors})
    except Exception as error:  # a user's network may load in its own way
        problem = f"{_name(model)} does not load its weights: {' '.join(str(error).split())[:200]}"
        raise InputError(problem, where=str(checkpoint.path), remedy="look at its load_state_dict") from error
    return found.name


def _expected(target: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module's state dict."""
    return {name: value for name, value in target.state_dict().items() if isinstance(value, Tensor)}


def _pairs(model: nn.Module, checkpoint: Checkpoint, entry: str | None) -> list[tuple[Entry, nn.Module]]:
    """Pair the entries of a file with the modules that may have been saved: a network, or the user's one inside."""
    entries = find_entries(checkpoint.content) if entry is None else select_entry(checkpoint.content, entry)
    if not entries:
        names = shortened(found.name or "the file itself" for found in find_entries(checkpoint.content))
        place = "the file holds no named tensors" if entry is None else f"there are no tensors at '{entry}'"
        remedy = f"`entry` may be {names}" if entry is not None and names else "name a file of a state dict"
        raise InputError(place, where=str(checkpoint.path), remedy=remedy)
    targets = [model.body, model] if isinstance(model, ImportedNetwork) else [model]
    return [(found, target) for found in entries for target in targets]


def _choose(checkpoint: Checkpoint, exact: Sequence[tuple[Entry, nn.Module, Fit]]) -> tuple[Entry, nn.Module, Fit]:
    """Return the entry to load of those that fit: the only one, or the averaged weights. Raises InputError."""
    different = [exact[0]]
    different += [other for other in exact[1:] if not any(_are_equal(other[2], known[2]) for known in different)]
    averages = [candidate for candidate in different if candidate[0].is_average]
    chosen = different if len(different) == 1 else averages
    names = [found.name or "the file itself" for found, _, _ in different]
    if len(chosen) != 1:
        problem = f"{len(different)} entries with different weights fit: {shortened(names)}"
        remedy = "name one: {file: ..., entry: " + (different[0][0].name or different[1][0].name) + "}"
        raise InputError(problem, where=str(checkpoint.path), remedy=remedy)
    if len(different) > 1:
        log.warning(
            "%s: the averaged weights '%s' are used; `entry` names others that fit: %s",
            checkpoint.path,
            chosen[0][0].name,
            shortened(name for name in names if name != chosen[0][0].name),
        )
    return chosen[0]


def _are_equal(first: Fit, second: Fit) -> bool:
    return first.tensors.keys() == second.tensors.keys() and all(
        torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items()
    )


def _misfit(model: nn.Module, checkpoint: Checkpoint, best: tuple[Entry, nn.Module, Fit]) -> InputError:
    found, target, match = best
    place = f"'{found.name}' does" if found.name else "its tensors do"
    problem = f"{place} not fit {_name(model)}: {match.describe()}"
    remedy = "name the network and the options that it was trained with"
    expected = _expected(target)
    parts = parts_of(found, least=len(expected) // 2)  # half: names of counters and of shared weights may be absent
    names = [part.name for part in parts if not fit(expected, part.tensors).problems]
    if names:
        remedy = f"set `entry` to a part of it that fits: {shortened(names)}"
    return InputError(problem, where=str(checkpoint.path), remedy=remedy)


def _check_statistics(target: nn.Module, match: Fit, checkpoint: Checkpoint) -> None:
    """Check that a network of ours has the statistics of its first layer that the file names. Raises InputError."""
    for name in ("normalization.mean", "normalization.std") if isinstance(target, Network) else ():
        own, stored = target.state_dict().get(name), match.tensors.get(name)
        if own is not None and stored is not None and not torch.equal(own.cpu(), stored.to(own.dtype)):
            values = ", ".join(f"{value:g}" for value in stored.flatten().tolist())
            problem = f"the file is of a network that normalizes with {name.rpartition('.')[2]} ({values})"
            raise InputError(problem, where=str(checkpoint.path), remedy="set `normalize:` to these statistics")


def _name(model: nn.Module) -> str:
    description = model.description if isinstance(model, Network) else None
    return description.architecture.name if description else type(model).__name__
