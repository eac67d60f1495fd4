"""The first layer of networks: statistics of the data, of the configuration, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from gauntlet.config.loading import load
from gauntlet.config.variants import Variant
from gauntlet.core.errors import InputError, InputErrors
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.registry import MODELS, Spec

MEAN, STD = (0.1, 1 / 3), (0.7, 0.2)
OPTIONS: dict[str, dict[str, Any]] = {
    "cnn": {"widths": [2]},
    "lenet": {"widths": [2, 2, 2]},
    "lipschitz_cnn": {"widths": [2, 2], "hidden": 4},
    "mnist_cnn": {"widths": [2, 2]},
    "vgg": {"depth": 3, "capacity": 0.05},
    "resnet": {"capacity": 0.05},
    "wide_resnet": {"depth": 10, "width": 1},
}
NETWORKS = [*MODELS.names(), "tests.support.user_networks:Plain"]


def built(name: str, normalize: Any = None, *, side: int = 18) -> Network:
    """Build a small network for images of two channels."""
    spec = Spec(name, OPTIONS.get(name, {}))
    network = build(spec, image_shape=(2, side, side), num_classes=5, mean=MEAN, std=STD, normalize=normalize)
    return network.eval()


def images(count: int, side: int = 18) -> torch.Tensor:
    """Return random images of two channels."""
    return torch.rand(count, 2, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_normalizes_as_its_variant_says(name: str, tmp_path: Path) -> None:
    """The first layer is (x - mean) / std with the data's statistics, others, or neither; loading keeps it."""
    x = images(2)
    for normalize, (mean, std) in {
        "data": (MEAN, STD),
        "none": ((0, 0), (1, 1)),
        ((0.5,), (0.25,)): ((0.5, 0.5), (0.25, 0.25)),
        ((0.5, 0.4), (0.25, 0.5)): ((0.5, 0.4), (0.25, 0.5)),
    }.items():
        network = built(name, normalize)
        expected = (x - torch.tensor(mean).reshape(1, 2, 1, 1)) / torch.tensor(std).reshape(1, 2, 1, 1)
        torch.testing.assert_close(network.normalization(x), expected)
        save_model(network, tmp_path)
        assert torch.equal(load_model(tmp_path)(x), network(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_is_the_data_except_for_lipschitz_networks(name: str) -> None:
    """The default of direct calls is that of configurations."""
    default = "none" if name == "lipschitz_cnn" else "data"
    assert Variant(model=name).as_dict()["normalize"] == default
    x = images(3)
    assert torch.equal(built(name)(x), built(name, default)(x))


@pytest.mark.parametrize(
    ("normalize", "scale"), [(None, 1.0), ("data", 1 / 0.2), (((0.5,), (0.25,)), 4.0), (((0.1, 0.2), (2.0, 4.0)), 0.5)]
)
def test_the_lipschitz_constant_is_in_pixels(normalize: Any, scale: float) -> None:
    """The claim is multiplied by the largest 1 / std, and no Jacobian exceeds it."""
    network = built("lipschitz_cnn", normalize, side=8)
    claim = network.lipschitz
    assert claim is not None
    assert claim.constant == pytest.approx(scale, rel=1e-4)
    exact = network.export().double()
    jacobian = torch.autograd.functional.jacobian(exact, images(1, 8).double()).reshape(5, -1)
    assert float(torch.linalg.matrix_norm(jacobian, 2)) <= claim.constant


@pytest.mark.parametrize(
    ("normalize", "problem"),
    [
        (((0.5, 0.5, 0.5), (1.0,)), "3 values of mean, but the images have 2 channels"),
        (((0.5,), (0.0,)), "a standard deviation of 0"),
        ("pixels", "unknown normalization 'pixels'"),
    ],
)
def test_impossible_statistics_are_refused(normalize: Any, problem: str) -> None:
    """The message names what is wrong."""
    with pytest.raises(InputError, match=problem):
        built("cnn", normalize)


def test_a_network_that_takes_no_statistics_refuses_them() -> None:
    """Statistics that a user's network never sees would have no effect."""
    with pytest.raises(InputError, match="has no effect"):
        built("tests.support.cheating_certificates:UnprovenNetwork", "none", side=8)


@pytest.mark.parametrize(
    "normalize",
    [
        "pixels",
        3,
        {"mean": [0.5]},
        {"mean": [0.5], "std": [0]},
        {"mean": [], "std": 1},
        {"mean": [127.5], "std": [64]},
        {"mean": [-0.1], "std": [1]},
        {"mean": [0.5, 0.5], "std": [1, 1, 1]},
    ],
)
def test_a_configuration_without_sense_is_refused(normalize: Any) -> None:
    """Names, single statistics, zero deviations, empty lists, pixels up to 255 and unequal lengths are errors."""
    with pytest.raises(ValidationError):
        Variant(model="cnn", normalize=normalize)


def test_statistics_are_written_alike_as_numbers_and_lists() -> None:
    """The recipe holds lists, so that both spellings give one recipe."""
    written = [Variant(model="cnn", normalize={"mean": mean, "std": 1}).as_dict() for mean in (0.5, [0.5])]
    assert written[0] == written[1]
    assert written[0]["normalize"] == {"mean": [0.5], "std": [1.0]}


def test_the_key_among_the_options_of_a_network_is_explained(tmp_path: Path) -> None:
    """`normalize` was an option of three networks; the message says where it is now."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "experiments: {a: {dataset: {source: sklearn_digits}, variants: {b: {model: {name: vgg, normalize: false}}}}}\n"
    )
    with pytest.raises(InputErrors, match="key of the variant, next to `model`"):
        load([file])
