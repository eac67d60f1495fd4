"""A network that normalizes inside and is normalized again is found by its accuracy, and so is the opposite."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import Spec
from gauntlet.robustness.preflight import normalization_warning

MEAN, STD = (0.802,), (0.05,)
CPU = torch.device("cpu")


class Threshold(nn.Module):
    """Two classes: darker or brighter than the mean of the data, in the pixels that the network expects."""

    def __init__(self, *, num_classes: int, inside: bool = False) -> None:
        super().__init__()
        self.weight, self.inside = nn.Parameter(torch.ones(num_classes)), inside

    def forward(self, x: Tensor) -> Tensor:
        """Map images to the logits of darker and brighter."""
        values = (x - MEAN[0]) / STD[0] if self.inside else x
        brightness = values.flatten(1).mean(1) * self.weight[0]
        return torch.stack([-brightness, brightness], 1)


def network(*, inside: bool, normalize: str) -> Network:
    """Build a network for pixels, or for normalized images, with a first layer."""
    shape: dict[str, Any] = {"image_shape": (1, 4, 4), "num_classes": 2, "mean": MEAN, "std": STD}
    return build(Spec(f"{__name__}:Threshold", {"inside": inside}), **shape, normalize=normalize).eval()


def split() -> Split:
    """Return 300 images around the mean, with their classes."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(190, 219, (300, 1, 1, 1), generator=draw).expand(-1, 1, 4, 4).to(torch.uint8)
    return Split(images, (images[:, 0, 0, 0] > 255 * MEAN[0]).long())


@pytest.mark.parametrize(
    ("inside", "normalize", "warning"),
    [
        (True, "none", None),
        (False, "data", None),
        (True, "data", "with the first layer's normalization, 100.0 % without it; .* set `normalize: none`"),
        (False, "none", "without normalization, 100.0 % with that of the data; .* set `normalize: data`"),
    ],
)
def test_the_wrong_normalization_is_found_by_the_accuracy(inside: bool, normalize: str, warning: str | None) -> None:
    """The right one is not warned of; the network stays as it is."""
    checked = network(inside=inside, normalize=normalize)
    before = {name: value.clone() for name, value in checked.state_dict().items()}
    found = normalization_warning(checked, split(), (MEAN, STD), device=CPU)
    if warning is None:
        assert found is None
    else:
        assert found is not None
        assert re.search(f"accuracy on 300 validation images: .* {warning}", found)
    assert all(torch.equal(value, before[name]) for name, value in checked.state_dict().items())


def test_a_difference_that_chance_explains_is_no_warning() -> None:
    """Of few images, a handful more."""
    images = split()
    few = Split(images.images[:8], images.labels[:8])
    assert normalization_warning(network(inside=True, normalize="data"), few, (MEAN, STD), device=CPU) is None
