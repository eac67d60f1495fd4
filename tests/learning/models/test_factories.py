"""Networks from functions, by import path and of libraries, and outputs that name their logits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.registry import Spec
from gauntlet.robustness.preflight import check_trainable

SHAPE: dict[str, Any] = {"image_shape": (3, 8, 8), "num_classes": 4, "mean": (0.3,) * 3, "std": (0.4,) * 3}
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def linear(image_shape: tuple[int, int, int], num_classes: int, *, width: int = 5) -> nn.Module:
    """Return a network with a hidden layer of `width` units."""
    values = image_shape[0] * image_shape[1] * image_shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(values, width), nn.ReLU(), nn.Linear(width, num_classes))


def any_options(**options: int) -> nn.Module:
    """Return a linear network of the classes among any options."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, options["num_classes"]))


def own_network(num_classes: int) -> Network:
    """Return a whole network of the package."""
    return build(Spec("cnn"), **{**SHAPE, "num_classes": num_classes})


def no_module(num_classes: int) -> Any:
    """Return a number."""
    return num_classes


def built(name: str, **options: Any) -> Network:
    """Build a network that a function of this module returns."""
    return build(Spec(f"{__name__}:{name}", options), **SHAPE)


def test_a_function_that_returns_a_module_is_a_network(tmp_path: Path) -> None:
    """It is built with its options, passes the preflight, is stored and loaded."""
    network = built("linear", width=7)
    assert network.body[1].out_features == 7
    check_trainable(network, seed=0)
    save_model(network, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path)(IMAGES), network.eval()(IMAGES))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("torchvision:squeezenet1_1", {}),
        ("torchvision:squeezenet1_1", {"dropout": 0.25}),
        ("timm:test_vit", {"drop_rate": 0.1}),
    ],
)
def test_a_network_of_a_library_is_stored_and_loaded(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    """With the options that are set; the others stay the library's own."""
    images = torch.nn.functional.interpolate(IMAGES, size=32)
    network = build(Spec(name, options), **{**SHAPE, "image_shape": (3, 32, 32)}).eval()
    save_model(network, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.description is not None
    assert loaded.description.architecture == Spec(name, options)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_a_function_that_takes_any_options_gets_the_number_of_classes() -> None:
    """So do the functions of libraries, which name no class."""
    assert built("any_options")(IMAGES).shape == (6, 4)


def test_a_function_that_returns_no_module_is_refused() -> None:
    """One line says what it returns, and what would be right."""
    with pytest.raises(InputError, match=r"no_module returns int; name .* a function that returns such a module"):
        built("no_module")


def test_statistics_that_a_function_does_not_take_are_refused() -> None:
    """A whole network normalizes itself."""
    with pytest.raises(InputError, match="own_network takes no mean and std"):
        build(Spec(f"{__name__}:own_network"), **SHAPE, normalize="none")


def test_gray_images_are_refused_by_a_network_of_torchvision() -> None:
    """Its networks take three channels; the error names the network."""
    gray = {**SHAPE, "image_shape": (1, 8, 8), "mean": (0.3,), "std": (0.4,)}
    with pytest.raises(InputError, match=r"torchvision:resnet18 takes images of 3 channels; these have 1.*timm:NAME"):
        build(Spec("torchvision:resnet18"), **gray)


@dataclass
class Output:
    """Outputs as a dataclass."""

    hidden: Tensor
    logits: Tensor


class Named(NamedTuple):
    """Outputs as a named tuple."""

    hidden: Tensor
    logits: Tensor


@dataclass
class ModelOutput(OrderedDict[str, Tensor]):
    """Outputs as Hugging Face's: a dataclass that is a mapping too."""

    hidden: Tensor
    logits: Tensor

    def __post_init__(self) -> None:
        """Hold the fields as items."""
        self.update(hidden=self.hidden, logits=self.logits)


NAMING = {
    "dataclass": Output,
    "named tuple": Named,
    "model output": ModelOutput,
    "dict": lambda hidden, logits: {"hidden": hidden, "logits": logits},
}
OTHERS = {
    "tuple": lambda hidden, logits: (hidden, logits),
    "list": lambda hidden, logits: [logits],
    "dict": lambda hidden, logits: {"scores": logits},
    "NoneType": lambda hidden, logits: {"logits": None},
    "Categorical": lambda hidden, logits: torch.distributions.Categorical(logits=logits),
}


class Naming(nn.Module):
    """A linear network whose outputs have other parts too."""

    def __init__(self, *, num_classes: int, kind: str, other: bool = False) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(192, num_classes), (OTHERS if other else NAMING)[kind]

    def forward(self, x: Tensor) -> Any:
        """Map images to logits with the images."""
        return self.output(x.flatten(1), self.layer(x.flatten(1)))


@pytest.mark.parametrize("kind", NAMING)
def test_logits_are_taken_by_name(kind: str) -> None:
    """In a network that is trained, and in one that is attacked as it is, which gives the rows of the logits alone."""
    network = built("Naming", kind=kind)
    assert network(IMAGES).shape == (6, 4)
    check_trainable(network, seed=0)
    model = Naming(num_classes=4, kind=kind).eval()
    alone = nn.Sequential(nn.Flatten(), model.layer).eval()
    labels = alone(IMAGES).argmax(1)
    pgd = {"name": "pgd", "norm": "linf", "epsilons": [0.1, 0.3], "steps": 3}
    for attack in (pgd, {"name": "fab", "norm": "l2", "steps": 5}):
        found, expected = (gauntlet.evaluate(each, IMAGES, labels, attack) for each in (model, alone))
        volatile = [name for name in found.column_names if name.endswith("_s")]
        assert found.drop_columns(volatile).equals(expected.drop_columns(volatile))


@pytest.mark.parametrize("kind", OTHERS)
def test_outputs_without_named_logits_are_refused_in_one_line(kind: str) -> None:
    """Before a training, and before an attack."""
    remedy = "return the logits .* alone, or as `logits` of a mapping, dataclass or named tuple"
    with pytest.raises(InputError, match=f"Naming returns {kind} for two images, expected .*{remedy}") as caught:
        built("Naming", kind=kind, other=True)
    assert "\n" not in str(caught.value)
    model = Naming(num_classes=4, kind=kind, other=True).eval()
    with pytest.raises(InputError, match=f"the model returns {kind} for 8 images; {remedy}"):
        gauntlet.evaluate(model, IMAGES, torch.zeros(6, dtype=torch.int64), {"name": "fab", "norm": "l2"})
