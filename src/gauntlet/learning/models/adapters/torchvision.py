"""Adapter that offers every classifier of torchvision as ``torchvision:NAME``, with its own options.

TorchVision maintainers and contributors 2016, https://github.com/pytorch/vision.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models import get_model_builder

from gauntlet.core.errors import InputError
from gauntlet.learning.models.adapters.signatures import constructor_parameters

_CHANNELS = 3


def adapt(name: str) -> Callable[..., nn.Module]:
    """Return the function that builds ``torchvision:NAME``, without weights, for the shape and classes of the data."""
    builder = get_model_builder(name)
    accepted = constructor_parameters(builder)

    def build_network(*, image_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
        channels, height, width = image_shape
        if channels != _CHANNELS:
            problem = f"torchvision:{name} takes images of {_CHANNELS} channels; these have {channels}"
            raise InputError(problem, where="model.name", remedy="timm has many of these networks for any: timm:NAME")
        size = {"image_size": height, "input_size": (height, width)}
        sized = {key: value for key, value in size.items() if key in accepted}
        with warnings.catch_warnings():
            # GoogLeNet and Inception announce another initialization of weights.
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = builder(weights=None, num_classes=num_classes, **sized, **options)
        return network

    return build_network
