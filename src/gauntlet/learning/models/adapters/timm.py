"""Adapter that offers every classifier of timm as ``timm:NAME``, with its own options.

Wightman 2019, PyTorch Image Models, https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
from torch import nn

from gauntlet.learning.models.adapters.signatures import constructor_parameters


def adapt(name: str) -> Callable[..., nn.Module]:
    """Return the function that builds ``timm:NAME``, without weights, for the shape and classes of the data."""
    accepted = constructor_parameters(timm.models.model_entrypoint(name))

    def build_network(*, image_shape: tuple[int, int, int], num_classes: int, **options: Any) -> nn.Module:
        channels, height, width = image_shape
        settings: dict[str, Any] = {**options, "in_chans": channels, "num_classes": num_classes}
        if "img_size" in accepted:
            settings["img_size"] = height if height == width else (height, width)
        network: nn.Module = timm.create_model(name, pretrained=False, **settings)
        return network

    return build_network
