"""Every registered network and head, and classes given by import path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gauntlet.config.compatibility import offered_surrogates
from gauntlet.config.variants import Variant
from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import HEADS, MODELS, Spec

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]
SMALLER: dict[str, dict[str, Any]] = {
    "vgg": {"depth": 11, "capacity": 0.25},
    "resnet": {"capacity": 0.1},
    "wide_resnet": {"depth": 10, "width": 1},
}


def architectures() -> list[Spec]:
    """List every registered network with every head that it takes."""
    specs = []
    for name in MODELS.names():
        if "head" in MODELS.entry(name).tags.get("parts", ()):
            specs += [Spec(name, {**SMALLER.get(name, {}), "head": {"name": head}}) for head in HEADS.names()]
        else:
            specs.append(Spec(name))
    specs += [Spec("cnn", {"head": {"name": name, "heads": 4}}) for name in ("ecc", "hadamard_code")]
    return [*specs, Spec("lipschitz_cnn", {"output": "disjoint"})]


def built(spec: Spec, shape: tuple[int, int, int] = (1, 28, 28), *, seed: int = 0, num_classes: int = 10) -> Network:
    """Return a network in evaluation mode."""
    mean, std = (0.3,) * shape[0], (0.4,) * shape[0]
    return build(spec, image_shape=shape, num_classes=num_classes, mean=mean, std=std, seed=seed).eval()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_networks_map_unit_images_to_logits_with_gradients(spec: Spec, shape: tuple[int, int, int]) -> None:
    """Logits (B, K) are finite, with gradients to the pixels through every surrogate."""
    if spec.name == "lenet" and shape[1] == 8:
        with pytest.raises(InputError, match="use `cnn`"):
            built(spec, shape)
        return
    network = built(spec, shape)
    x = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    assert network(x).shape == (5, 10)
    assert torch.equal(network(x), network.decode(network.outputs(x)))
    for view in network.surrogates.values():
        pixels = x.clone().requires_grad_()
        scores = view(pixels)
        assert scores.shape == (5, 10)
        (gradient,) = torch.autograd.grad(scores[:, 0].sum(), pixels)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_black_images_have_finite_gradients(spec: Spec) -> None:
    """Large constant regions give finite gradients."""
    network = built(spec)
    pixels = torch.zeros(2, 1, 28, 28, requires_grad=True)
    network(pixels).pow(2).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_weights_are_decided_by_the_seed_alone(spec: Spec) -> None:
    """The global random state neither decides weights nor changes."""
    torch.manual_seed(1)
    first = built(spec).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = built(spec).state_dict(), built(spec, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_normalization_is_the_first_layer() -> None:
    """A network takes pixels in [0, 1] and computes (x - mean) / std per channel."""
    network = build(Spec("cnn"), image_shape=(3, 8, 8), num_classes=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    seen: list[torch.Tensor] = []
    network.body.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    network(torch.full((1, 3, 8, 8), 0.6))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([1.0, 1.6, 0.3])


def test_lenet_has_the_layers_of_the_source() -> None:
    """The LeNet of FastEstimator's apphub has 122 570 parameters on CIFAR-10 images."""
    network = built(Spec("lenet"), (3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == 122_570


def test_the_activation_of_lenet_is_that_of_its_head_too() -> None:
    """With elu and four heads the network is that of FastEstimator's PyTorch script, written out here."""
    network = built(Spec("lenet", {"activation": {"name": "elu"}, "head": {"name": "ecc", "heads": 4}}), (3, 32, 32))
    convolutions = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = (x - 0.3) / 0.4
    for convolution in convolutions[:2]:
        y = nn.functional.max_pool2d(nn.functional.elu(convolution(y)), 2)
    y = nn.functional.elu(convolutions[2](y)).flatten(1)
    bits = [second(nn.functional.elu(first(y))) for first, _, second in network.head.branches]  # type: ignore[union-attr]
    assert [tuple(layer.shape) for layer in bits] == [(2, 4)] * 4
    torch.testing.assert_close(network.outputs(x), torch.tanh(torch.cat(bits, dim=1)))
    assert not any(isinstance(module, nn.ReLU) for module in network.modules())


@pytest.mark.parametrize("spec", architectures(), ids=str)
def test_registered_surrogates_are_those_of_the_network(spec: Spec) -> None:
    """The tags `surrogates` name the surrogates that the network has."""
    offered = set(built(spec).surrogates) - {"logits"}
    assert set(offered_surrogates(Variant.model_validate({"model": spec.as_dict()})) or ()) == offered


def test_the_code_bits_surrogate_is_before_the_tanh() -> None:
    """The surrogate has a gradient where the tanh is saturated."""
    network = built(Spec("cnn", {"head": {"name": "ecc"}}))
    with torch.no_grad():
        for branch in network.head.branches:  # type: ignore[union-attr]
            branch[-1].weight *= 1e4
    pixels = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (saturated,) = torch.autograd.grad(network(pixels).sum(), pixels)
    (surrogate,) = torch.autograd.grad(network.surrogates["code_bits"](pixels)[:, 0].sum(), pixels)
    assert saturated.abs().max() == 0
    assert surrogate.abs().min() >= 0
    assert surrogate.abs().max() > 1


class TestImportPath:
    """User-defined module classes."""

    @pytest.mark.parametrize("name", ["tests.support.user_networks:Plain", "tests.support.user_networks:Free"])
    def test_a_class_is_built_with_the_arguments_it_names(self, name: str) -> None:
        """The constructor gets the sizes it names and its options; normalization comes first."""
        network = built(Spec(name, {"width": 6}), (3, 8, 8), num_classes=7)
        x = torch.rand(4, 3, 8, 8)
        assert network(x).shape == (4, 7)
        assert network.body.layers[0].weight.shape == (6, 3, 3, 3)  # type: ignore[union-attr, index]
        assert torch.equal(network(x), network.body((x - 0.3) / 0.4))
        assert set(network.surrogates) == {"logits"}
        assert network.lipschitz is None

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("tests.support.user_networks:NoModule", "not a network class"),
            ("tests.support.user_networks:function", r"returns \(2, 1, 28, 28\) for two images, expected \(2, 10\)"),
            ("tests.support.user_networks:Failing", "cannot be constructed: RuntimeError: no such thing$"),
            ("tests.support.user_networks:WrongShape", r"returns \(2,\) for two images, expected \(2, 10\)"),
            ("tests.support.user_networks:NotFinite", "not finite"),
        ],
    )
    def test_a_class_that_is_no_classifier_is_refused_in_one_line(self, name: str, message: str) -> None:
        """Each defect has its message."""
        with pytest.raises(InputError, match=message):
            built(Spec(name))

    def test_an_unknown_option_is_refused(self) -> None:
        """An option that the constructor does not take is refused."""
        with pytest.raises(InputError, match="wdith"):
            built(Spec("tests.support.user_networks:Plain", {"wdith": 3}))


@pytest.mark.parametrize("side", [18, 28, 31, 32])
def test_pixels_that_lenet_drops_change_nothing(side: int) -> None:
    """Features and gradients are those of the whole image."""
    network = built(Spec("lenet"), (3, side, side)).double()
    x = torch.rand(4, 3, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = network.body(network.normalization(x)).flatten(1)
    torch.testing.assert_close(network.features(x), whole, rtol=0, atol=1e-12)
    pixels = x.clone().requires_grad_()
    (network.body(network.normalization(pixels))).pow(2).sum().backward()
    assert pixels.grad is not None
    reached = (pixels.grad != 0).any(dim=(0, 1)).nonzero().amax(dim=0) + 1
    assert reached.tolist() == list(network._used)
