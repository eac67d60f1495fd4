"""From a model's Spec to a network: our own by name, any `torch.nn.Module` class by import path."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.randomness import derive_seed
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Head, Network, NetworkDescription
from gauntlet.registry import MODELS, PARTS, Spec, complete_part


def build(
    model: Spec,
    *,
    image_shape: Sequence[int],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int = 0,
) -> Network:
    """Build a network for images of shape (C, H, W) with weights drawn by `seed`, in training mode, on the CPU.

    `mean` and `std` are the data's per channel, in [0, 1]. The global random state is left as it was. A class by
    import path is called with its options and with those of `image_shape`, `num_classes`, `in_channels`, `mean`,
    `std` that its constructor names; it maps normalised images to logits `(B, K)`, unless it is a `Network` itself.

    Raises InputError for what is no class of modules, cannot be constructed, or gives outputs of another shape.
    """
    channels, height, width = image_shape
    description = NetworkDescription(model, (channels, height, width), num_classes, tuple(mean), tuple(std))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed("train", seed, "weights"))
        network = _construct(description)
    network.description = description
    _probe(network, model.name)
    return network


def _construct(description: NetworkDescription) -> Network:
    name = description.architecture.name
    factory = MODELS.load(name)
    if not (inspect.isclass(factory) and issubclass(factory, nn.Module)):
        remedy = "name a class derived from torch.nn.Module"
        raise InputError(f"{name} is no class of networks", where="model.name", remedy=remedy)
    supplied: dict[str, Any] = {
        "image_shape": description.image_shape,
        "num_classes": description.num_classes,
        "in_channels": description.image_shape[0],
        "mean": description.mean,
        "std": description.std,
    }
    accepted, options = inspect.signature(factory).parameters, dict(description.architecture.options)
    for key in MODELS.entry(name).tags.get("part_options", {}):
        options[key] = complete_part(name, key, options.get(key, PARTS[key][1]))
    arguments = {key: value for key, value in supplied.items() if key in accepted} | options
    try:
        module = factory(**arguments)
    except GauntletError:
        raise
    except Exception as error:
        problem = f"{name} cannot be constructed: {type(error).__name__}: {_first_line(error)}"
        raise InputError(problem, where="model") from error
    if isinstance(module, Network):
        return module
    return ImportedNetwork(normalization=Normalization(description.mean, description.std), body=module, head=Head())


class ImportedNetwork(Network):
    """A user's own module behind the normalisation: it maps normalised images `(B, C, H, W)` to logits `(B, K)`."""

    def outputs(self, x: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to logits `(B, K)`."""
        logits: Tensor = self.body(self.normalization(x))
        return logits

    @property
    def samples_are_independent(self) -> bool:
        """False: nothing is known of a user's module."""
        return False


def _probe(network: Network, name: str) -> None:
    """Run two black images through the network: it must give one row of finite logits each."""
    description = network.description
    if description is None:
        raise ValueError("a network is probed after it was described")
    training = network.training
    try:
        with torch.no_grad():
            logits: Tensor = network.eval()(torch.zeros(2, *description.image_shape))
    except GauntletError:
        raise
    except Exception as error:
        shape = "x".join(map(str, description.image_shape))
        problem = f"{name} cannot take {shape} images: {type(error).__name__}: {_first_line(error)}"
        raise InputError(problem, where="model") from error
    finally:
        network.train(training)
    wanted = (2, description.num_classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"{name} gives {got} for two images, expected {wanted}", where="model")
    if not logits.isfinite().all():
        raise InputError(f"{name} gives logits that are not finite on a black image", where="model")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
