"""Construction of networks: registered ones by name, classes and functions of others by import path or library."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gauntlet.core.device_errors import device_error
from gauntlet.core.errors import GauntletError, InputError, first_line
from gauntlet.core.randomness import derive_seed
from gauntlet.core.seeding import seeded
from gauntlet.learning.models.layers.normalization import Normalization, Statistics, input_statistics
from gauntlet.learning.models.network import Head, Network, NetworkDescription
from gauntlet.learning.models.outputs import OUTPUTS_REMEDY, named_logits
from gauntlet.registry import MODELS, PARTS, Spec, complete_part, default_normalization

_FACTORY_REMEDY = "name a class derived from torch.nn.Module, or a function that returns such a module"


def build(
    model: Spec,
    *,
    image_shape: Sequence[int],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    normalize: str | Statistics | None = None,
    seed: int = 0,
) -> Network:
    """Build a network for images of shape (C, H, W), in training mode, on the CPU; `seed` decides its initial weights.

    `mean` and `std` are those of the data per channel, in [0, 1]. The network's first layer subtracts and divides by
    them (`normalize`: ``data``), by others (a pair), or does nothing (``none``); the default is the network's own. The
    global random states do not change. A class, or a function that returns a module, is called with its options, and
    with those of `image_shape`, `num_classes`, `in_channels`, `mean` and `std` (of the first layer) that it names; a
    function with ``**kwargs`` gets `num_classes` too. The module maps normalized images to logits `(B, K)`, or to
    outputs that name them (`named_logits`), unless it is a `Network` itself.

    Raises InputError if the name makes no module, the constructor fails, or the outputs have another shape.
    """
    channels, height, width = image_shape
    chosen = default_normalization(model.name) if normalize is None else normalize
    layer_mean, layer_std = input_statistics((mean, std), chosen)
    description = NetworkDescription(model, (channels, height, width), num_classes, layer_mean, layer_std, seed)
    with seeded(derive_seed("import")):
        # On its own: what a module draws when it is imported must not change the weights of the first network.
        factory = _import(model)
    with seeded(derive_seed("train", seed, "weights")):
        network = _construct(description, factory)
        if normalize not in (None, "data") and not _takes_statistics(network, factory):
            problem = f"{model.name} takes no mean and std, so this has no effect"
            raise InputError(problem, where="normalize", remedy="leave it out, or let its constructor take them")
        network.description = description
        # Inside: layers may draw their weights at the first forward.
        _check_forward(network, model.name)
    return network


def rebuild(description: NetworkDescription, *, seed: int | None = None) -> Network:
    """Build a network again by its description, with its own seed or another; raises as `build` does.

    The statistics of a description are those of the first layer, whatever the variant's `normalize` was.
    """
    return build(
        description.architecture,
        image_shape=description.image_shape,
        num_classes=description.num_classes,
        mean=description.mean,
        std=description.std,
        normalize="data",
        seed=description.seed if seed is None else seed,
    )


def _import(model: Spec) -> Any:
    """Import a model and the parts that its options name; return the model."""
    factory = MODELS.load(model.name)
    for key in MODELS.entry(model.name).tags.get("parts", ()):
        part = model.options.get(key)
        name = part.get("name") if isinstance(part, Mapping) else part
        if isinstance(name, str):
            PARTS[key][0].load(name)
    return factory


def _construct(description: NetworkDescription, factory: Any) -> Network:
    name = description.architecture.name
    if not callable(factory) or (inspect.isclass(factory) and not issubclass(factory, nn.Module)):
        raise InputError(f"{name} is not a network class", where="model.name", remedy=_FACTORY_REMEDY)
    supplied: dict[str, Any] = {
        "image_shape": description.image_shape,
        "num_classes": description.num_classes,
        "in_channels": description.image_shape[0],
        "mean": description.mean,
        "std": description.std,
    }
    accepted, options = _accepted(factory), dict(description.architecture.options)
    for key in MODELS.entry(name).tags.get("part_options", {}):
        options[key] = complete_part(name, key, options.get(key, PARTS[key][1]))
    arguments = {key: value for key, value in supplied.items() if key in accepted} | options
    try:
        module = factory(**arguments)
    except GauntletError:
        raise
    except Exception as error:
        problem = f"{name} cannot be constructed: {type(error).__name__}: {first_line(error)}"
        raise InputError(problem, where="model") from error
    if isinstance(module, Network):
        return module
    if not isinstance(module, nn.Module):
        raise InputError(f"{name} returns {type(module).__name__}", where="model.name", remedy=_FACTORY_REMEDY)
    return ImportedNetwork(normalization=Normalization(description.mean, description.std), body=module, head=Head())


class ImportedNetwork(Network):
    """Normalization, then a module of the user or of a library, which maps normalized images to logits `(B, K)`."""

    def outputs(self, x: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to logits `(B, K)`."""
        logits: Tensor = named_logits(self.body(self.normalization(x)))
        return logits

    @property
    def samples_are_independent(self) -> bool:
        """False: nothing is known about a user's module."""
        return False


def _accepted(factory: Any) -> set[str]:
    """List the arguments that a class or function can be called with, of those that are not options."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    # A class that takes any keyword may pass them to a base that knows none of ours.
    return {*parameters, *(["num_classes"] if takes_any and not inspect.isclass(factory) else [])}


def _takes_statistics(network: Network, factory: Any) -> bool:
    return isinstance(network, ImportedNetwork) or {"mean", "std"} <= _accepted(factory)


def _check_forward(network: Network, name: str) -> None:
    """Check that the network maps two black images to one row of finite logits each, in both modes.

    In training mode, losses are computed from its logits too. A copy is checked, so that nothing changes that a layer
    takes from its first images; but layers without weights yet get theirs.
    """
    description = network.description
    if description is None:
        raise ValueError("the network has no description")
    if any(is_lazy(parameter) for parameter in network.parameters()):
        training = network.training
        _logits(network.eval(), name, description, "")
        network.train(training)
    try:
        with torch.no_grad():
            checked = copy.deepcopy(network)
    except Exception as error:  # a user's network may refuse in any way
        problem = f"{name} cannot be copied: {type(error).__name__}: {first_line(error)}"
        raise InputError(problem, where="model", remedy="keep modules, tensors and plain values only") from error
    if not _logits(checked.eval(), name, description, "").isfinite().all():
        problem = f"{name} returns logits that are not finite for a black image"
        raise InputError(problem, where="model", remedy="look for divisions by zero and logarithms of pixels")
    _logits(checked.train(), name, description, " in training mode")


def _logits(network: Network, name: str, description: NetworkDescription, mode: str) -> Tensor:
    try:
        with torch.no_grad():
            logits: Tensor = network(torch.zeros(2, *description.image_shape))
    except GauntletError:
        raise
    except Exception as error:
        shape = "x".join(map(str, description.image_shape))
        problem = f"{name} cannot take {shape} images{mode}: {type(error).__name__}: {first_line(error)}"
        remedy = "let it take images (B, C, H, W) of this shape, in training and evaluation mode"
        raise device_error(error) or InputError(problem, where="model", remedy=remedy) from error
    expected = (2, description.num_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        actual = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        problem = f"{name} returns {actual} for two images{mode}, expected {expected}"
        remedy = "return one logit per class" if isinstance(logits, Tensor) else OUTPUTS_REMEDY
        raise InputError(problem, where="model", remedy=remedy)
    return logits
