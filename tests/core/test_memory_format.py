"""Memory format of networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gauntlet.core.memory_format import fastest_memory_format
from gauntlet.learning.models.build import build
from gauntlet.registry import Spec

SHAPE: dict[str, Any] = {"image_shape": (1, 8, 8), "num_classes": 10, "mean": (0,), "std": (1,)}


@pytest.mark.parametrize(
    ("spec", "on_cpu"),
    [
        (Spec("mnist_cnn"), torch.channels_last),
        (Spec("mnist_cnn", {"folding": {"name": "maxout"}}), torch.contiguous_format),
        (Spec("mnist_cnn", {"folding": {"name": "minmaxout"}}), torch.contiguous_format),
        (Spec("lipschitz_cnn"), torch.contiguous_format),
        (Spec("lipschitz_cnn", {"activation": "full_sort", "pooling": "average"}), torch.channels_last),
    ],
)
def test_networks_that_combine_channels_are_trained_contiguous_on_a_cpu(
    spec: Spec, on_cpu: torch.memory_format
) -> None:
    """Folding and sorting of pairs are slow in channels last there; other networks and devices have channels last."""
    network = build(spec, **SHAPE)
    assert fastest_memory_format(network, torch.device("cpu")) == on_cpu
    assert fastest_memory_format(network, torch.device("cuda")) == torch.channels_last
