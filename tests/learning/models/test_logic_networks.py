"""The MNIST CNN and VGG: layers of the source, combinations of parts, initialization, training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.activations.relog import ReLog
from gauntlet.learning.models.build import build
from gauntlet.learning.models.foldings.folding import Folding
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import ACTIVATIONS, FOLDINGS, MODELS, UNITS, Spec

SMALL: dict[str, dict[str, Any]] = {
    "mnist_cnn": {"widths": [3, 4]},
    "vgg": {"depth": 4, "capacity": 0.05, "batch_norm": True},
    "resnet": {"capacity": 0.05},
    "wide_resnet": {"depth": 10, "width": 1},
}
NETWORKS = [name for name in MODELS.names() if "unit" in MODELS.entry(name).tags.get("parts", ())]


def built(name: str, shape: tuple[int, int, int] = (1, 8, 8), **options: Any) -> Network:
    """Return a network with these options and ten classes."""
    mean, std = (0.3,) * shape[0], (0.4,) * shape[0]
    return build(Spec(name, options), image_shape=shape, num_classes=10, mean=mean, std=std)


def images(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Tensor:
    """Images of noise."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


def weighted(network: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """List the layers with weights, in order."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def test_mnist_cnn_has_the_layers_of_the_source() -> None:
    """Conv5x5(16), conv5x5(32) and dense(10) have 28 938 parameters on MNIST."""
    network = built("mnist_cnn", (1, 28, 28))
    shapes = [tuple(layer.weight.shape) for layer in weighted(network)]
    assert shapes == [(16, 1, 5, 5), (32, 16, 5, 5), (10, 1568)]
    assert sum(parameter.numel() for parameter in network.parameters()) == 28_938


@pytest.mark.parametrize(
    ("depth", "widths"),
    [
        (3, [64, 128, 256]),
        (4, [64, 128, 256, 256]),
        (11, [64, 128, 256, 256, 512, 512, 512, 512]),
        (13, [64, 64, 128, 128, 256, 256, 512, 512, 512, 512]),
        (16, [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]),
        (19, [64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512]),
    ],
)
def test_vgg_has_the_widths_of_the_literature(depth: int, widths: list[int]) -> None:
    """Widths are halved by `capacity` here; five poolings of 32x32 images leave one pixel."""
    network = built("vgg", (3, 32, 32), depth=depth, capacity=0.25)
    *convs, dense = weighted(network)
    assert [layer.weight.shape[0] for layer in convs] == [width // 4 for width in widths]
    assert tuple(dense.weight.shape) == (10, widths[-1] // 4)
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in network.modules()) == 5


def test_vgg16_has_as_many_weights_as_published_code() -> None:
    """14 719 818 without BatchNorm: 13 convolutions and dense(10)."""
    network = built("vgg", (3, 32, 32))
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_719_818


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 65, 64), (1, 1, 9)], ids=str)
def test_vgg_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    """A feature map of one pixel is not pooled."""
    assert built("vgg", shape, depth=11, capacity=0.02)(images(3, shape)).shape == (3, 10)


def test_mnist_cnn_refuses_images_below_4x4() -> None:
    """Pooling would leave no pixel."""
    with pytest.raises(InputError, match="needs images of 4x4 pixels or more, these are 3x8"):
        built("mnist_cnn", (1, 3, 8))


def test_modifications_apply_from_the_first_to_the_last_layer_named() -> None:
    """Layers 1 and 2 of VGG4's five change; the others are linear with relu and keep their width."""
    parts = {"unit": {"name": "quadratic"}, "folding": {"name": "maxout"}, "activation": {"name": "relog"}}
    network = built("vgg", (3, 32, 32), depth=4, capacity=0.25, first_modified=1, last_modified=2, **parts)
    assert [layer.weight.shape[0] for layer in weighted(network)] == [16, 4 * 32, 4 * 64, 64, 10]
    kinds = [type(layer).__name__ for layer in network.body if not isinstance(layer, Folding | nn.MaxPool2d)]
    assert kinds == ["Conv2d", "Relu", "SecondOrder", "ReLog", "SecondOrder", "ReLog", "Conv2d", "Relu"]
    assert not any(isinstance(layer, SecondOrder) for layer in network.head.modules())
    assert any(isinstance(layer, SecondOrder) for layer in built("vgg", depth=3, **parts).head.modules())


@pytest.mark.parametrize(("first", "last"), [(5, None), (3, 2), (0, 5)])
def test_layers_that_do_not_exist_are_refused(first: int, last: int | None) -> None:
    """VGG4 has layers 0 to 4, and first must not exceed last."""
    with pytest.raises(InputError, match="vgg of depth 4 has layers 0 to 4"):
        built("vgg", depth=4, capacity=0.05, first_modified=first, last_modified=last)


def test_batch_norm_is_the_journals_and_ties_samples_together() -> None:
    """It has momentum 0.01 after every activation; training outputs depend on the whole batch."""
    plain, normed = (built("vgg", depth=4, capacity=0.1, batch_norm=on) for on in (False, True))
    layers = [layer for layer in normed.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [layer.momentum for layer in layers] == [0.01] * 4
    assert plain.samples_are_independent
    assert not normed.samples_are_independent
    x = images(6)
    assert not torch.allclose(normed.train()(x)[:3], normed(x[:3]), atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid", "ecc"])
def test_the_output_is_one_dense_layer_unless_hidden_is_given(name: str, head: str) -> None:
    """This holds for configurations and for direct calls."""
    from_file = Variant(model={"name": name, "head": head, **SMALL[name]}, loss="hinge").model
    assert from_file.options["head"]["hidden"] == 0
    by_hand = built(name, head={"name": head}, **SMALL[name])
    same = build(from_file, image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,)).state_dict()
    assert all(torch.equal(tensor, same[key]) for key, tensor in by_hand.state_dict().items())
    assert len(weighted(by_hand.head)) == 1
    assert len(weighted(built(name, head={"name": head, "hidden": 6}, **SMALL[name]).head)) == 2


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("head", ["softmax", "sigmoid", "ecc", "hadamard_code"])
def test_a_hidden_layer_of_the_head_has_the_activation_of_the_network(name: str, head: str) -> None:
    """It was relu, whatever the rest of the network had."""
    network = built(name, head={"name": head, "hidden": 6}, activation={"name": "relog", "beta": 3.0}, **SMALL[name])
    (activation,) = (layer for layer in network.head.modules() if isinstance(layer, nn.ReLU | ReLog))
    assert isinstance(activation, ReLog)
    assert activation.beta == 3.0


def composed() -> Iterator[tuple[str, str, str, str]]:
    """Yield the first network with all parts, and each other one with every pair of two parts."""
    for (i, activation), (j, unit), (k, folding) in itertools.product(
        *(enumerate(parts.names()) for parts in (ACTIVATIONS, UNITS, FOLDINGS))
    ):
        for name in NETWORKS:
            if name == NETWORKS[0] or (i + j + k) % 3 == 0:
                yield name, activation, unit, folding


@pytest.mark.parametrize(("name", "activation", "unit", "folding"), list(composed()))
def test_parts_compose_and_are_stored_with_the_weights(
    name: str, activation: str, unit: str, folding: str, tmp_path: Path
) -> None:
    """Logits are finite, every parameter has a gradient, and a loaded network has equal outputs."""
    parts = {"activation": {"name": activation}, "unit": {"name": unit}, "folding": {"name": folding}}
    network = built(name, **SMALL[name], **parts)
    network(images(8)).square().sum().backward()
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    network.after_step()
    for ramp in network.modules():
        if isinstance(ramp, Ramp):
            assert ramp.step == 1
            ramp.step += 299
    x = images(5)
    _set_statistics(network, x)
    save_model(network.eval(), tmp_path)
    assert network(x).isfinite().all()
    assert torch.equal(load_model(tmp_path)(x), network(x))


def _set_statistics(network: Network, x: Tensor) -> None:
    """Set the running statistics to those of a batch, as training with the present strength of ramps would."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network.train()(x)


def test_initialization_preserves_the_scale_of_activations() -> None:
    """Logits of sixteen convolutions stay near 1, folded or not, normalized or not."""
    for parts in ({}, {"folding": {"name": "maxout"}}, {"activation": {"name": "relog", "start": 1.0}}):
        for batch_norm in (False, True):
            network = built("vgg", (1, 32, 32), depth=19, capacity=0.1, batch_norm=batch_norm, **parts)
            with torch.no_grad():
                assert 0.05 < network(images(8, (1, 32, 32))).square().mean().sqrt() < 20


@pytest.mark.parametrize(
    ("parts", "moment"),
    [
        ({}, 0.5),
        ({"folding": {"name": "maxout"}, "centered": False}, 1.55),
        ({"folding": {"name": "maxout"}}, 0.27),
        ({"activation": {"name": "relog", "beta": 2.0, "start": 1.0}}, 0.12),
    ],
    ids=str,
)
def test_moment_is_the_mean_square_after_the_activation(parts: dict[str, Any], moment: float) -> None:
    """It is one half after relu; of the largest of four normal values three times that, less when centered."""
    assert LayerFactory(**parts).moment == pytest.approx(moment, abs=0.03)


def test_folded_layers_start_with_a_mean_of_zero() -> None:
    """Initial biases are minus the mean of a fold, and 0 without folding."""
    conv = LayerFactory(folding={"name": "maxout"}).conv(1, 64, 5)
    LayerFactory(folding={"name": "maxout"}).initialize(conv, 1.0)
    assert conv(torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))).mean().abs() < 0.1
    assert all((layer.bias == 0).all() for layer in weighted(built("mnist_cnn")) if layer.bias is not None)


@pytest.mark.parametrize(
    ("head", "loss"), [("softmax", "cross_entropy"), ("sigmoid", "sigmoid_mse"), ("sigmoid", "sigmoid_bce")]
)
def test_elliptical_maxout_with_relog_learns(head: str, loss: str) -> None:
    """It classifies over 90 % of the digits within 4 epochs while its ramps rise."""
    data = prepare(Spec("sklearn_digits"))
    ramp = {"increment": 0.02}
    options = {
        "head": {"name": head},
        "activation": {"name": "relog", "beta": 2.0, **ramp},
        "unit": {"name": "elliptical", **ramp},
        "folding": {"name": "maxout", "pieces": 4},
    }
    network = build(Spec("mnist_cnn", options), image_shape=(1, 8, 8), num_classes=10, mean=data.mean, std=data.std)
    settings = Training(epochs=4, batch_size=64, optimizer=Spec("adam", {"lr": 3e-3, "amsgrad": True}))
    run = TrainingRun(network, Spec(loss), data.splits["train"], data.splits["validation"], settings=settings, seed=0)
    epochs = [run.run_epoch() for _ in range(4)]
    assert all(float(module()) == 1.0 for module in network.modules() if isinstance(module, Ramp))
    assert epochs[-1].train_loss < 0.5 * epochs[0].train_loss
    assert epochs[-1].validation_accuracy > 0.9
