"""Networks of torchvision and timm pass the preflight, or are refused by name with the reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torchvision.models import get_model_builder, get_model_weights, list_models

from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import Spec
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.preflight import check_model, check_trainable

SIZE = 32
# Families that need larger images, with the reason that the error gives.
REFUSED = {
    "alexnet": "cannot take 3x32x32 images: .*Output size is too small",
    "inception": "cannot take 3x32x32 images: .*Kernel size can't be greater than actual input size",
    "maxvit": r"cannot be constructed: .*Input size \(8, 8\) of block 0 is not divisible by partition size 7",
}
# Of these hundred million weights, a second and third network would take long to draw.
LARGE = ("vgg", "vision_transformer")
LARGER = [("torchvision:alexnet", 64, {}), ("torchvision:inception_v3", 75, {"aux_logits": False})]
TIMM = ["convnext_atto", "efficientvit_b0", "mobilenetv3_small_050", "regnetx_002", "resnet10t", "test_nfnet"]
TIMM += ["vit_tiny_patch16_224"]


def smallest_of_each_family() -> dict[str, str]:
    """Map the module of each family of classifiers to its network with the fewest parameters."""
    families: dict[str, list[tuple[int, str]]] = {}
    for name in list_models(module=torchvision.models):
        family = get_model_builder(name).__module__.rpartition(".")[2]
        families.setdefault(family, []).append((get_model_weights(name).DEFAULT.meta["num_params"], name))
    return {family: min(members)[1] for family, members in families.items()}


def built(name: str, size: int, **options: Any) -> Network:
    """Build a network for color images of a size and four classes."""
    shape = {"image_shape": (3, size, size), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return build(Spec(name, options), num_classes=4, **shape)


def test_families_are_those_of_torchvision() -> None:
    """No family is left out, and those that are refused exist."""
    families = smallest_of_each_family()
    assert len(families) >= 17
    assert REFUSED.keys() <= families.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), smallest_of_each_family().items())
def test_a_network_of_torchvision_is_accepted_or_refused_by_name(family: str, name: str) -> None:
    """For small images; the reason that is given is the library's."""
    if family in REFUSED:
        with pytest.raises(InputError, match=f"torchvision:{name} {REFUSED[family]}") as caught:
            built(f"torchvision:{name}", SIZE)
        assert "\n" not in str(caught.value)
        return
    network = built(f"torchvision:{name}", SIZE)
    if family not in LARGE:
        check_trainable(network, seed=0)
        return
    images = torch.rand((4, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    check_model(Judge(network.eval(), device=torch.device("cpu")), images, None)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "options"), LARGER)
def test_networks_that_are_refused_for_small_images_take_larger_ones(
    name: str, size: int, options: dict[str, Any]
) -> None:
    """Inception's auxiliary output needs still larger ones, unless it is left out."""
    check_trainable(built(name, size, **options), seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_a_network_of_timm_is_accepted(name: str) -> None:
    """Vision transformers get the size of the images."""
    check_trainable(built(f"timm:{name}", SIZE), seed=0)


def test_a_network_of_timm_takes_any_number_of_channels() -> None:
    """The data decide it, as they decide size and classes."""
    network = build(Spec("timm:test_vit"), image_shape=(1, 32, 32), num_classes=4, mean=(0.5,), std=(0.5,))
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
