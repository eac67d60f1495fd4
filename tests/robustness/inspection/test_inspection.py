"""Inspection of networks: values computed by hand, and determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.config.variants import Training
from gauntlet.core.parquet import write_table
from gauntlet.learning.data.negatives.overlay import Overlay
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.activations.relog import ReLog
from gauntlet.learning.models.build import ImportedNetwork, build
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.network import Head, LayerHead, Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.learning.training.loop import fit
from gauntlet.registry import MODELS, Spec
from gauntlet.robustness.inspection.activation_curves import activation_curves
from gauntlet.robustness.inspection.activation_maximization import maximize_responses
from gauntlet.robustness.inspection.arrays import INSPECTION_SCHEMA, InspectedArray, array_table, read_arrays
from gauntlet.robustness.inspection.class_images import class_images
from gauntlet.robustness.inspection.first_layer import find_first_layer, first_layer_arrays
from gauntlet.robustness.inspection.inspector import inspect_network
from gauntlet.robustness.inspection.interpolation import interpolate
from gauntlet.robustness.inspection.training_negatives import training_negatives

CPU = torch.device("cpu")
DATA = prepare(Spec("sklearn_digits"), limit={"train": 200, "test": 60})
TRAIN, VALIDATION, TEST = (DATA.splits[name] for name in ("train", "validation", "test"))


def network(*body: nn.Module, head: Head | None = None) -> Network:
    """Return a network of these layers, on raw pixels, in evaluation mode."""
    return Network(
        normalization=Normalization([0.0], [1.0]), body=nn.Sequential(*body), head=head or LayerHead(nn.Identity())
    ).eval()


def dense(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    """Return a dense layer with these weights."""
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def first_layer(one: Network, shape: tuple[int, int, int]) -> list[InspectedArray]:
    """Inspect the first layer of a network."""
    return first_layer_arrays(find_first_layer(one, shape, CPU), shape, CPU)


def slope(value: float) -> nn.Module:
    """Return a learned activation with this slope below zero."""
    return nn.PReLU(init=value)


def test_a_relu_is_drawn_with_its_derivative():
    """It has 161 points from -4 to 4, one curve however often the function is used."""
    (one,) = activation_curves(network(nn.ReLU(), nn.ReLU()), CPU)
    x, values, slopes = one.values
    assert (one.kind, one.name, x[0], x[80], x[-1]) == ("activation", "relu", -4, 0, 4)
    assert np.array_equal(values, np.maximum(x, 0))
    assert np.array_equal(slopes, x > 0)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ELU, nn.SiLU, nn.Hardtanh])
def test_a_function_that_writes_into_its_input_is_drawn(kind):
    """The networks of torchvision have such functions; the curve is that of the same function without."""
    (one,) = activation_curves(network(kind(inplace=True)), CPU)
    (other,) = activation_curves(network(kind()), CPU)
    assert one.name == other.name
    assert np.allclose(one.values, other.values, atol=1e-6)


def test_a_relog_is_drawn_at_the_strength_it_has():
    """It is log(1 + 2x) / 2 and 1 / (1 + 2x) at full strength; another strength is a curve with its layer's name."""
    full, half = ReLog(beta=2.0, start=1.0), ReLog(beta=2.0, start=0.5)
    (one,) = activation_curves(network(full), CPU)
    x, values, slopes = one.values[:, 81:]
    assert np.allclose(values, np.log1p(2 * x) / 2, rtol=1e-5)
    assert np.allclose(slopes, 1 / (1 + 2 * x), rtol=1e-5)
    assert [one.name for one in activation_curves(network(full, half, full), CPU)] == [
        "relog (body.0)",
        "relog (body.1)",
    ]


def test_learned_functions_are_drawn_by_layer():
    """Layers with equal parameters share a curve."""
    found = activation_curves(network(slope(0.25), slope(0.5), slope(0.25)), CPU)
    assert [(one.name, one.values[1, 0]) for one in found] == [("prelu (body.0)", -1.0), ("prelu (body.1)", -2.0)]


@pytest.mark.parametrize(
    "joining", [nn.Softmax(1), nn.GLU(1), nn.PReLU(3), nn.Softmax2d(), nn.Identity(), nn.MaxPool2d(2)]
)
def test_functions_across_channels_are_left_out(joining):
    """They are no curve."""
    assert activation_curves(network(joining), CPU) == []


def test_filters_are_the_weights_of_the_first_layer_that_an_image_passes():
    """The order of the forward pass counts, and at most 32 filters are shown."""

    class Reversed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Conv2d(40, 2, 1), nn.Conv2d(1, 40, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x)).mean((2, 3))

    body = Reversed()
    filters = [one for one in first_layer(network(body), (1, 8, 8)) if one.kind == "filter"]
    assert [one.number for one in filters] == list(range(32))
    assert {one.name for one in filters} == {"body.0.first"}
    assert np.array_equal(np.stack([one.values for one in filters]), body.first.weight[:32].detach())


def test_a_dense_layer_on_pixels_has_filters_of_the_images_shape():
    """On other inputs it has units only, and a network without layers has neither."""
    layer = dense([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]])
    shown = first_layer(network(nn.Flatten(), layer), (1, 2, 2))
    assert next(one.values.tolist() for one in shown if one.kind == "filter") == [[[1.0, 2.0], [3.0, 4.0]]]
    pooled = first_layer(network(nn.AvgPool2d(2), nn.Flatten(), layer), (1, 4, 4))
    assert {one.kind for one in pooled} == {"unit"}
    assert first_layer(network(nn.Flatten()), (1, 2, 2)) == []


def test_an_exciting_image_is_the_best_of_the_ball():
    """It is the radius, 0.25 times the root of the number of pixels, along the weights, clipped to the box."""
    weight = [[3.0, 0.0, 0.0, 4.0], [0.0, -1.0, 0.0, 0.0]]
    shown = first_layer(network(nn.Flatten(), dense(weight, [1.0, 2.0])), (1, 2, 2))
    first, second = (one for one in shown if one.kind == "unit")
    assert np.allclose(first.values, [[[0.8, 0.5], [0.5, 0.9]]], atol=1e-6)
    assert (first.start, first.value) == (pytest.approx(4.5), pytest.approx(7.0))
    assert np.allclose(second.values, [[[0.5, 0.0], [0.5, 0.5]]], atol=1e-6)
    assert (second.start, second.value) == (pytest.approx(1.5), pytest.approx(2.0))


def test_a_convolutions_unit_is_shown_on_its_receptive_field():
    """The central unit of an 8x8 image sees a 3x3 window, brighter where weights are positive."""
    conv = nn.Conv2d(1, 2, 3, padding=1)
    shown = first_layer(network(conv, nn.Flatten()), (1, 8, 8))
    units = [one for one in shown if one.kind == "unit"]
    assert {one.values.shape for one in units} == {(1, 3, 3)}
    for one, weight in zip(units, conv.weight.detach().numpy(), strict=True):
        assert np.array_equal(np.sign(one.values - 0.5), np.sign(weight))
        assert one.value > one.start


def test_a_dense_layer_on_a_sequence_is_shown_at_its_middle():
    """The third of four positions sees the third row of the image, and its weights are no image."""
    rows = nn.Flatten(1, 2)
    shown = first_layer(network(rows, dense([[1.0, 0.0], [0.0, 1.0]]), nn.Flatten()), (1, 4, 2))
    assert [one.kind for one in shown] == ["unit", "unit"]
    assert np.array_equal(shown[0].values > 0.5, [[[True, False]]])


def test_a_unit_with_squared_inputs_uses_them():
    """The filter is the linear part; x - x² is largest at gray, where the search starts and stays."""
    unit = SecondOrder(dense([[1.0]], [0.0]), Ramp(start=1.0), positive=False)
    with torch.no_grad():
        unit.curvature.fill_(1.0)
    filters, excited = first_layer(network(nn.Flatten(), unit), (1, 1, 1))
    assert filters.values.tolist() == [[[1.0]]]
    assert (excited.values.tolist(), excited.value) == ([[[0.5]]], excited.start)


def test_no_response_falls_and_no_pixel_leaves_the_box():
    """The best point of the search in the ball is kept, also for nonlinear responses."""
    torch.manual_seed(0)
    layer, seen = nn.Linear(16, 6), []

    def waves(x: Tensor) -> Tensor:
        seen.append((20 * layer(x.flatten(1))).sin())
        return seen[-1]

    excited = maximize_responses(waves, 6, (1, 4, 4), values=16, device=CPU)
    assert torch.equal(excited.value, torch.stack([one.diagonal() for one in seen]).amax(0))
    assert torch.allclose(waves(excited.images).diagonal(), excited.value, atol=1e-5)
    assert (excited.value > excited.start).any()
    assert (excited.images >= 0).all()
    assert (excited.images <= 1).all()
    assert (torch.linalg.vector_norm((excited.images - 0.5).flatten(1), dim=1) <= 0.25 * math.sqrt(16) + 1e-6).all()


def test_each_class_has_its_own_image():
    """A linear network's image follows the weights, a constant score leaves gray, and at most ten classes are shown."""
    rows = [[0.0] * 4, *[[float(place == number % 4) for place in range(4)] for number in range(11)]]
    shown = class_images(network(nn.Flatten(), dense(rows)), (1, 2, 2), CPU)
    assert [one.label for one in shown] == list(range(10))
    assert np.all(shown[0].values == 0.5)
    assert np.allclose(shown[3].values, [[[0.5, 0.5], [1.0, 0.5]]], atol=1e-6)


def steps(*pixels: int, labels: list[int]) -> Split:
    """Return a split of one-pixel images, in steps of 1/255."""
    return Split(torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None], torch.tensor(labels))


DARK_OR_BRIGHT = dense([[-10.0], [10.0]], [5.0, -5.0])


def test_a_transition_leads_from_the_first_correct_image_to_the_first_of_another_class():
    """Its ends are the network's probabilities of the two images, its middle those of their mean."""
    one = network(nn.Flatten(), DARK_OR_BRIGHT)
    split = steps(255, 51, 0, 204, 255, labels=[0, 0, 0, 1, 1])
    curves, *images = interpolate(one, split, CPU)
    ends = torch.tensor([51 / 255, 204 / 255])[:, None, None, None]
    expected = one(torch.cat([ends[:1], ends.mean(0, keepdim=True), ends[1:]])).softmax(1).T
    assert curves.values.shape == (2, 33)
    assert np.allclose(curves.values[:, [0, 16, 32]], expected.detach(), atol=1e-6)
    assert [image.label for image in images] == [0, None, None, None, 1]
    assert np.allclose([image.values.item() for image in images], np.linspace(0.2, 0.8, 5))
    assert [image.value for image in images] == [0, 0.25, 0.5, 0.75, 1]


def test_sigmoids_need_not_sum_to_one():
    """The head defines the probabilities."""
    from gauntlet.learning.models.heads.sigmoid import SigmoidHead

    head = SigmoidHead(in_features=1, num_classes=2)
    head.layers[0].load_state_dict(dense([[-10.0], [10.0]], [5.0, -5.0]).state_dict())
    curves = interpolate(network(nn.Flatten(), head=head), steps(0, 255, labels=[0, 1]), CPU)[0]
    assert curves.values[0, 0] == pytest.approx(1 / (1 + math.exp(-5)))


@pytest.mark.parametrize("labels", [[0, 0], [1, 0], [0, 0, 1]])
def test_without_two_correct_classes_there_is_no_transition(labels):
    """Two correctly classified images of different classes are needed."""
    pixels = [0, 255, 0][: len(labels)]
    assert interpolate(network(nn.Flatten(), DARK_OR_BRIGHT), steps(*pixels, labels=labels), CPU) == []


@pytest.mark.parametrize("batch_size", [20, 100, 1000])
def test_negatives_are_those_that_the_training_makes(monkeypatch, batch_size):
    """They have its augmentation, order and draws from their start epoch; short epochs contribute more per step."""
    settings = Training(
        epochs=2,
        batch_size=batch_size,
        negatives=Spec("overlay", {"start_epoch": 2}),
        augmentation=[Spec("gaussian_noise", {"std": 0.1})],
    )
    seen: list[Tensor] = []
    make = Overlay.make
    with monkeypatch.context() as watched:
        watched.setattr(Overlay, "make", lambda *given: seen.append(make(*given)) or seen[-1])
        model = Spec("cnn", {"widths": [2], "head": {"name": "sigmoid"}})
        built = build(model, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)
        fit(built, Spec("sigmoid_bce"), TRAIN, VALIDATION, settings=settings, seed=5, device=CPU)
    spec = settings.negatives
    shown = training_negatives(
        spec, TRAIN, augmentation=settings.augmentation, batch_size=batch_size, seed=5, device=CPU
    )
    each = math.ceil(4 / min(4, len(seen)))
    expected = torch.cat([made[:each] for made in seen])[:4]
    assert [(one.kind, one.name, one.number) for one in shown] == [("negative", "overlay", at) for at in range(4)]
    assert np.array_equal(np.stack([one.values for one in shown]), expected)


@pytest.mark.parametrize("name", [name for name in MODELS.names() if name not in ("lenet",)])
def test_every_kind_of_network_is_inspected_to_the_same_values_again(name, tmp_path):
    """The table is read back, and network and global random state are unchanged."""
    small = {
        "vgg": {"depth": 3, "capacity": 0.05},
        "resnet": {"capacity": 0.05},
        "wide_resnet": {"depth": 10, "width": 1},
    }
    options = small.get(name, {})
    model = build(Spec(name, options), image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std)
    model = model.export().eval()
    before, state = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    first = array_table(inspect_network(model, TEST, device=CPU), experiment="e", variant=name, seed=0)
    torch.manual_seed(1)
    assert first.equals(array_table(inspect_network(model, TEST, device=CPU), experiment="e", variant=name, seed=0))
    assert first.schema == INSPECTION_SCHEMA
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in model.modules())
    write_table(tmp_path / "inspection.parquet", first, {})
    shown = read_arrays(tmp_path / "inspection.parquet", "class")
    assert len(shown) == 10
    assert {one.values.shape for one in shown} == {(1, 8, 8)}
    torch.set_rng_state(state)


class Named(nn.Module):
    """Module that returns its logits by name, with one activation for layers of two widths."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 16), nn.Linear(16, 8), nn.Linear(8, 10)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map `(B, 1, 8, 8)` to logits and to the second hidden layer."""
        hidden = self.activation(self.second(self.activation(self.first(x.flatten(1)))))
        return {"logits": self.last(hidden), "hidden": hidden}


def test_a_users_module_that_returns_its_logits_by_name_is_inspected():
    """The plane shows one of its logits."""
    torch.manual_seed(0)
    model = ImportedNetwork(normalization=Normalization([0.0], [1.0]), body=Named(), head=Head()).eval()
    test = Split(TEST.images, model(TEST.images.float() / 255).argmax(1))
    arrays = inspect_network(model, test, device=CPU)
    (plane,) = (one for one in arrays if one.kind == "plane")
    corner = torch.from_numpy(next(one for one in arrays if one.kind == "corner").values)
    assert plane.values[0, 0] == pytest.approx(float(model(corner[None])[0, plane.number].detach()), abs=1e-5)
    assert {one.kind for one in arrays} >= {"activation", "activity", "class", "decision", "filter", "patch", "unit"}
