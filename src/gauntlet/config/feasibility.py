"""Checks of networks and training that would fail, or have no effect, once training begins.

They rely on the tags that components are registered with: `smallest_side`, `last_layer` and `even` of networks, `code`
of heads, `side`, `channels` and `classes` of data sources. A tag that a user's own component lacks excludes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gauntlet.config.budgets import largest_distance
from gauntlet.config.components import Problem
from gauntlet.config.datasets import Dataset
from gauntlet.config.variants import Statistics, Training, Variant
from gauntlet.registry import HEADS, MODELS, NEGATIVES, SCHEDULES, SOURCES, Spec, part_of


def network_problems(variant: Variant, dataset: Dataset) -> Iterator[Problem]:
    """Yield options of a network that its constructor would refuse, at their key paths below the variant."""
    name, options, tags = variant.model.name, variant.model.options, MODELS.entry(variant.model.name).tags
    side, smallest = side_of(dataset), tags.get("smallest_side")
    if side is not None and smallest is not None and side < smallest:
        problem = f"{name} needs images of {smallest}x{smallest} pixels or more, these are {side}x{side}"
        yield ("model", "name"), f"{problem}; choose another network, such as cnn"
    if MODELS.known_options(variant.model).get("widths") == []:
        yield ("model", "widths"), "the network has no layers; set at least one width"
    yield from _modified_layers(name, options, tags.get("last_layer"))
    even = tags.get("even", {})
    if even and options.get("activation") == even["activation"]:
        for option in even["options"]:
            if odd := [number for number in _as_list(options.get(option)) if number % 2]:
                yield ("model", option), f"{even['activation']} sorts pairs, so {odd[0]} must be even"
    yield from _code(part_of(variant.model, HEADS), classes_of(dataset))
    yield from _statistics(variant, _known(dataset, "channels"))


def budget_problem(norm: str, epsilons: Sequence[float], dataset: Dataset) -> str | None:
    """Return a message if the largest budget, in pixel units, exceeds every distance between images; None if not."""
    side, channels = side_of(dataset), _known(dataset, "channels")
    if not epsilons or side is None or channels is None:
        return None
    most = largest_distance(norm, channels * side * side)
    if epsilons[-1] <= most:
        return None
    return f"{epsilons[-1]:g} is above the largest {norm} distance of images of {channels}x{side}x{side}, {most:g}"


def schedule_problems(training: Training, dataset: Dataset) -> Iterator[Problem]:
    """Yield parts of training that end after it, or are in no order, at their key paths below the variant."""
    epochs = training.epochs
    if training.warmup_epochs >= epochs:
        problem = f"the learning rate rises over {training.warmup_epochs} epochs, training ends after {epochs}"
        yield ("training", "warmup_epochs"), f"{problem}; choose {epochs - 1} or less, or train longer"
    adversary = training.adversary
    rise = adversary.options.get("warmup_epochs") if adversary else None
    if isinstance(rise, int) and rise > epochs:
        problem = f"the budget rises over {rise} epochs, training ends after {epochs}"
        yield ("training", "adversary", "warmup_epochs"), f"{problem}; choose {epochs} or less, or train longer"
    schedule = SCHEDULES.known_options(training.schedule)
    rise = schedule.get("warmup_epochs")
    if isinstance(rise, int | float) and rise >= epochs:
        problem = f"the learning rate rises over {rise:g} epochs, training ends after {epochs}"
        yield ("training", "schedule", "warmup_epochs"), f"{problem}; choose less, or train longer"
    milestones = schedule.get("milestones")
    if isinstance(milestones, list) and milestones != sorted(set(milestones)):
        yield ("training", "schedule", "milestones"), "the epochs must ascend, each once"
    if milestones == []:
        yield ("training", "schedule", "milestones"), "the list is empty; name an epoch, or use constant"
    side = side_of(dataset)
    blocks = _as_list(NEGATIVES.known_options(training.negatives).get("blocks")) if training.negatives else []
    if side is not None and (large := [block for block in blocks if block >= side]):
        problem = f"an image of {side}x{side} has only one block of {large[0]} pixels"
        yield ("training", "negatives", "blocks"), f"{problem}; use smaller blocks"


def side_of(dataset: Dataset) -> int | None:
    """Return the side of a data set's square images in pixels; None if it is not known before they are read."""
    size = dataset.source.options.get("size")
    return size if isinstance(size, int) else _known(dataset, "side")


def classes_of(dataset: Dataset) -> int | None:
    """Return the number of classes that a source is tagged with, by the data set's name if it has several."""
    return _known(dataset, "classes")


def _known(dataset: Dataset, tag: str) -> int | None:
    value = SOURCES.entry(dataset.source.name).tags.get(tag)
    return value.get(dataset.source.options.get("name")) if isinstance(value, Mapping) else value


def _modified_layers(name: str, options: Mapping[str, Any], last_layer: Mapping[int, int] | None) -> Iterator[Problem]:
    if last_layer is None:
        return
    output, first, last = last_layer[options["depth"]], options["first_modified"], options["last_modified"]
    layers = f"{name} of depth {options['depth']} has layers 0 to {output}"
    if last is not None and last > output:
        yield ("model", "last_modified"), f"{layers}, not {last}"
    if first > output:
        yield ("model", "first_modified"), f"{layers}, not {first}"
    elif last is not None and first > last:
        yield ("model", "first_modified"), f"no layer is from {first} to {last}; choose first_modified <= last_modified"


def _code(part: Spec | None, classes: int | None) -> Iterator[Problem]:
    """Yield options of a code that its head refuses; its default length depends on the number of classes."""
    head = HEADS.known_options(part) if part else {}
    code = HEADS.entry(part.name).tags.get("code") if part and head else None
    if code is None:
        return
    heads, hidden, length = head["heads"], head["hidden"], head["length"]
    if length is None and classes is not None:
        length = 1 << max(1, (classes - 1).bit_length())
    shares = f"{heads} heads cannot share"
    if hidden % heads:
        yield ("model", "head", "heads"), f"{shares} {hidden} hidden units evenly; choose a number that divides them"
    elif length is not None and (length % heads or (code == "cut" and length == heads)):
        bits = length - 1 if code == "cut" else length
        yield ("model", "head", "heads"), f"{shares} {bits} bits of the code evenly; choose a smaller power of two"
    if classes is not None and head["max_probability"] * classes <= 1:
        problem = f"{head['max_probability']:g} is not above chance among {classes} classes"
        yield ("model", "head", "max_probability"), f"{problem}; choose more than {1 / classes:.3g}"


def _statistics(variant: Variant, channels: int | None) -> Iterator[Problem]:
    """Yield lists of statistics for another number of channels than that of the images."""
    given = variant.normalize
    if channels is None or not isinstance(given, Statistics):
        return
    for key, values in (("mean", given.mean), ("std", given.std)):
        if len(values) not in (1, channels):
            expected = "one number" if channels == 1 else f"{channels} numbers, or one"
            problem = f"the images have {channels} channel{'' if channels == 1 else 's'}, so expected {expected}"
            yield ("normalize", key), f"{problem}, got {len(values)}"


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
