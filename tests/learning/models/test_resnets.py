"""ResNet and Wide ResNet: sizes of the literature, blocks written out here, parts, maps of every size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.learning.models.activations.relog import ReLog
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.basic_block import BasicBlock, PreactivationBlock
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.registry import Spec

SMALL = [
    Spec("resnet", {"capacity": 0.05}),
    Spec("resnet", {"capacity": 0.05, "preactivation": True}),
    Spec("wide_resnet", {"depth": 10, "width": 1}),
]


def built(spec: Spec, shape: tuple[int, int, int] = (3, 32, 32)) -> Network:
    """Build a network for ten classes."""
    return build(spec, image_shape=shape, num_classes=10, mean=(0.5,) * shape[0], std=(0.25,) * shape[0])


def images(count: int, shape: tuple[int, int, int] = (3, 32, 32)) -> Tensor:
    """Return images of noise."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("resnet", {}, 11_173_962),
        ("resnet", {"depth": 34}, 21_282_122),
        # With the last normalization of He et al. 2016, as in Rice et al. 2020, and without, as in kuangliu's code.
        ("resnet", {"preactivation": True}, 11_172_170),
        ("resnet", {"preactivation": True, "last_norm": False}, 11_171_146),
        ("wide_resnet", {"width": 2}, 1_467_610),
        ("wide_resnet", {"width": 10}, 36_479_194),
    ],
    ids=str,
)
def test_networks_have_as_many_parameters_as_published_code(
    name: str, options: dict[str, Any], parameters: int
) -> None:
    """The counts are those of the usual implementations for ten classes."""
    network = built(Spec(name, options))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_preactivation_network_computes_the_published_function() -> None:
    """Stem, blocks with shortcuts of the first activation, normalization, relu, mean and head are written out here."""
    for spec in SMALL[1:]:
        network = built(spec).eval()
        stem, *rest = network.body
        x = stem((images(2) - 0.5) / 0.25)
        blocks = [layer for layer in rest if isinstance(layer, PreactivationBlock)]
        assert len(blocks) == (8 if spec.name == "resnet" else 3)
        for block in blocks:
            norm, (conv1, norm2, _, conv2) = block.first[0], block.layers
            activated = functional.relu(norm(x))
            shortcut = x if block.shortcut is None else block.shortcut(activated)
            x = conv2(functional.relu(norm2(conv1(activated)))) + shortcut
        x = functional.relu(rest[-3](x)).mean((2, 3))
        torch.testing.assert_close(network.head(x), network(images(2)))


def test_a_resnet_activates_after_the_sum() -> None:
    """A block is relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), where the shape changes with a normalized conv1x1."""
    network = built(SMALL[0]).eval()
    blocks = [layer for layer in network.body if isinstance(layer, BasicBlock)]
    assert [isinstance(block.shortcut, nn.Identity) for block in blocks] == [True, True, *[False, True] * 3]
    channels = blocks[2].layers[0][0].weight.shape[1]  # type: ignore[index, union-attr]
    x = images(2, (channels, 8, 8))
    conv1, norm1, _, conv2, norm2 = blocks[2].layers
    expected = functional.relu(norm2(conv2(functional.relu(norm1(conv1(x))))) + blocks[2].shortcut(x))
    torch.testing.assert_close(blocks[2](x), expected)


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_groups_after_the_first_halve_the_map(spec: Spec) -> None:
    """The last map of a 32x32 image has 4x4 pixels after four groups, 8x8 after three; the stem keeps 32x32."""
    network, sizes = built(spec), []
    for layer in network.body:
        layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.shape[-1]))
    network(images(2))
    groups = 4 if spec.name == "resnet" else 3
    assert sizes[0] == 32
    assert sizes[-2] == 2 ** (6 - groups)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 33, 20)], ids=str)
@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_images_of_any_size_are_classified(spec: Spec, shape: tuple[int, int, int]) -> None:
    """No size is too small, since the maps are padded and averaged."""
    assert built(spec, shape)(images(3, shape)).shape == (3, 10)


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_parts_replace_every_activation_and_every_3x3_convolution(spec: Spec) -> None:
    """Shortcuts stay linear; no relu is left; ramps advance."""
    parts = {"activation": {"name": "relog"}, "unit": {"name": "elliptical"}, "head": {"name": "ecc", "hidden": 0}}
    plain, network = built(spec), built(Spec(spec.name, {**spec.options, **parts}))
    relus = sum(isinstance(layer, nn.ReLU) for layer in plain.modules())
    assert sum(isinstance(layer, ReLog) for layer in network.modules()) == relus
    assert not any(isinstance(layer, nn.ReLU) for layer in network.modules())
    convs = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    wrapped = {layer.linear for layer in network.modules() if isinstance(layer, SecondOrder)}
    assert all((layer in wrapped) == (layer.kernel_size == (3, 3)) for layer in convs)
    before = network(images(2)).detach()
    for _ in range(500):
        network.after_step()
    assert not torch.allclose(network(images(2)), before)


@pytest.mark.parametrize("spec", SMALL, ids=str)
def test_outputs_keep_their_scale_at_initialization(spec: Spec) -> None:
    """Logits of an untrained network are neither tiny nor huge."""
    assert 0.05 < built(spec)(images(8)).detach().square().mean().sqrt() < 20
