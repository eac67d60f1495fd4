"""Arrays for the journal's pictures, compared with computations of their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.randomness import derive_seed, generator
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.activations.relog import ReLog
from gauntlet.learning.models.layer_factory import LayerFactory
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.network import LayerHead, Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.registry import Spec
from gauntlet.robustness.inspection.activity import leaky_activations
from gauntlet.robustness.inspection.depth import output_scales
from gauntlet.robustness.inspection.designs import DEFAULT, design_of
from gauntlet.robustness.inspection.first_layer import find_first_layer
from gauntlet.robustness.inspection.patches import distinct_patterns, exciting_patches, highest
from gauntlet.robustness.inspection.plane import plane
from gauntlet.robustness.inspection.unit_maps import dots, unit_maps

CPU = torch.device("cpu")
RELOG = {"name": "relog", "beta": 2.0}
MAXOUT = {"name": "maxout", "pieces": 4}


def network(*body: nn.Module, mean: float = 0.0, std: float = 1.0, channels: int = 1) -> Network:
    """Return a network of these layers, in evaluation mode."""
    normalization = Normalization([mean] * channels, [std] * channels)
    return Network(normalization=normalization, body=nn.Sequential(*body), head=LayerHead(nn.Identity())).eval()


def split(count: int, *shape: int, seed: int = 0) -> Split:
    """Draw images, all of class 0."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, *shape), generator=draws, dtype=torch.uint8)
    return Split(images, torch.zeros(count, dtype=torch.int64))


def patches_of(one: Network, test: Split) -> dict[tuple[str, int], list[np.ndarray]]:
    """Inspect the patches of a network, by kind and unit."""
    found: dict[tuple[str, int], list[np.ndarray]] = {}
    layer = find_first_layer(one, test.image_shape, CPU)
    for array in exciting_patches(layer, test, CPU):
        found.setdefault((array.kind, array.number), []).append(array.values)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": "valid"},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 2, "stride": 3, "groups": 2},
    ],
)
def test_top_patches_are_those_of_a_search_over_all_windows(options):
    """The mean is over the highest 1 % of the windows inside the image, and every pattern is one of them."""
    torch.manual_seed(0)
    test = split(40, 2, 9, 11)
    conv = nn.Conv2d(2, 4, **options)
    found = patches_of(network(conv, nn.ReLU(), mean=0.3, std=0.2, channels=2), test)
    images = test.images.numpy().astype(np.float32) / 255
    groups, (height, width) = conv.groups, conv.kernel_size
    step = conv.dilation[0]
    padding = (conv.padding,) * 2 if isinstance(conv.padding, str) else conv.padding
    offset = [
        {"valid": 0, "same": step * (size - 1) // 2}.get(pad, pad)
        for pad, size in zip(padding, (height, width), strict=True)
    ]
    for unit in range(4):
        group = unit // (4 // groups)
        channels = slice(group * 2 // groups, (group + 1) * 2 // groups)
        windows = []
        for image in images:
            # The windows begin where a stride leads from the padded corner.
            tops = [top for top in range(-offset[0], 9, conv.stride[0]) if 0 <= top <= 9 - step * (height - 1) - 1]
            lefts = [left for left in range(-offset[1], 11, conv.stride[1]) if 0 <= left <= 11 - step * (width - 1) - 1]
            for top, left in itertools.product(tops, lefts):
                window = image[channels, top : top + step * height : step, left : left + step * width : step]
                response = ((window - 0.3) / 0.2 * conv.weight[unit].detach().numpy()).sum()
                windows.append((response, window[:, :height, :width]))
        count = math.ceil(0.01 * len(windows))
        top_windows = [window for _, window in sorted(windows, key=lambda pair: -pair[0])[:count]]
        assert np.allclose(found["patch_mean", unit][0], np.mean(top_windows, 0), atol=1e-6)
        for pattern in found["patch", unit]:
            assert any(np.allclose(pattern, window, atol=1e-7) for window in top_windows)


def test_the_patches_of_a_dense_layer_are_images():
    """The top 1 % of 300 images are three; squared inputs count."""
    torch.manual_seed(0)
    test = split(300, 1, 3, 4)
    unit = SecondOrder(nn.Linear(12, 2), Ramp(start=1.0), positive=True)
    found = patches_of(network(nn.Flatten(), unit), test)
    images = test.images.float() / 255
    response = unit(images.flatten(1))
    for number in range(2):
        top = images[response[:, number].argsort(descending=True)[:3]]
        assert np.allclose(found["patch_mean", number][0], top.mean(0), atol=1e-6)
        assert len(found["patch", number]) == 3


def test_a_layer_that_sees_no_pixels_has_no_patches():
    """Neither pooled images nor windows that no image contains."""
    test = split(10, 1, 8, 8)
    assert patches_of(network(nn.AvgPool2d(2), nn.Conv2d(1, 2, 3)), test) == {}
    assert patches_of(network(nn.Flatten(1, 2), nn.Linear(8, 2)), test) == {}
    assert patches_of(network(nn.Conv2d(1, 2, 9, padding=4)), test) == {}
    assert patches_of(network(nn.Flatten()), test) == {}


def test_the_highest_values_are_as_many_as_asked():
    """Of equal ones the first count."""
    values = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0, 0.0])
    assert highest(values, 0.5).tolist() == [1, 2, 3]
    assert highest(values, 0.01).tolist() == [1]
    assert highest(torch.zeros(5), 1.0).tolist() == [0, 1, 2, 3, 4]


def test_patterns_are_found_with_their_shares():
    """Three groups of similar patches are three patterns at most; identical patches are one."""
    draws = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 9.0]])
    groups = [
        middle + 0.1 * torch.randn(count, 2, generator=draws)
        for middle, count in zip(middles, (50, 30, 20), strict=True)
    ]
    patches = torch.cat(groups)
    found = distinct_patterns(patches, 3, unit=0)
    assert [share for _, share in found] == [0.5, 0.3, 0.2]
    for (position, _), group in zip(found, groups, strict=True):
        nearest = (group - group.mean(0)).norm(dim=1).argmin()
        assert torch.equal(patches[position], group[nearest])
    assert distinct_patterns(torch.ones(6, 3), 4, unit=0) == [(0, 1.0)]
    assert len(distinct_patterns(patches, 4, unit=0)) == 4


def test_weak_activations_are_counted_by_hand():
    """Shares are relative to each unit's largest activation; a unit that never fires is left out."""
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [-1.0], [-1.0]]))
        layer.bias.copy_(torch.tensor([0.0, 100 / 255, 0.0]))
    pixels = [0, 5, 10, 20, 40, 60, 80, 100]
    test = Split(torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None], torch.zeros(8, dtype=torch.int64))
    (found,) = leaky_activations(network(nn.Flatten(), layer, nn.ReLU()), test, CPU)
    # Unit 0 has pixels / 100, unit 1 has 1 - pixels / 100, unit 2 is off.
    relative = np.array([*pixels, *(100 - pixel for pixel in pixels)]) / 100
    assert (found.kind, found.name, found.start, found.value) == ("activity", "body.2", 2 / 16, 2 / 16)
    limits = np.arange(21) / 20 + 1e-6
    assert np.allclose(found.values, [(relative <= limit).mean() for limit in limits])


def test_activations_of_every_layer_and_position_count():
    """Layers are in the order of the network; softmax and dead layers are left out."""
    torch.manual_seed(0)
    test = split(20, 1, 5, 5)
    first, second = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 2)
    dead = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    nn.init.constant_(dead[0].weight, -1.0)
    nn.init.zeros_(dead[0].bias)
    found = leaky_activations(
        network(first, nn.ReLU(), second, nn.ReLU(), dead, nn.Flatten(), nn.Softmax(1)), test, CPU
    )
    assert [array.name for array in found] == ["body.1", "body.3"]
    hidden = first(test.images.float() / 255).relu()
    for array, values in zip(found, (hidden, second(hidden).relu()), strict=True):
        units = values.detach().transpose(0, 1).flatten(1).numpy()
        units = units[units.max(1) > 0]
        relative = units / units.max(1, keepdims=True)
        assert array.start == pytest.approx((relative == 0).mean())
        assert array.value == pytest.approx(((relative > 0) & (relative <= 0.1)).mean(), abs=1e-9)
        assert array.values[-1] == 1


def test_layers_of_other_widths_may_share_an_activation():
    """All uses of the module count, and each unit is compared with its own largest activation."""
    torch.manual_seed(0)
    first, second, activation = nn.Linear(4, 6), nn.Linear(6, 3), nn.ReLU()
    test = split(20, 1, 2, 2)
    layers = (nn.Flatten(), first, activation, second, activation)
    (found,) = leaky_activations(network(*layers, mean=0.5), test, CPU)
    hidden = first(test.images.flatten(1) / 255 - 0.5).relu()
    uses = [values.detach().numpy() for values in (hidden, second(hidden).relu())]
    firing = [use[:, use.max(0) > 0] for use in uses]
    relative = np.concatenate([(use / use.max(0)).ravel() for use in firing])
    assert all(use.size for use in firing)
    assert 0 < found.start == pytest.approx((relative == 0).mean())
    assert found.value == pytest.approx(((relative > 0) & (relative <= 0.1)).mean(), abs=1e-9)


def test_activations_are_those_of_the_function_whatever_a_later_layer_writes_into_them():
    """A sum or a product in place would be counted otherwise."""
    torch.manual_seed(0)

    class Shifting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.add_(1.0)

    layer, test = nn.Linear(4, 6), split(20, 1, 2, 2)
    alone, shifted = (
        leaky_activations(network(nn.Flatten(), layer, nn.ReLU(), *more, mean=0.5), test, CPU)
        for more in ([], [Shifting()])
    )
    assert [array.start for array in shifted] == [array.start for array in alone] != [0.0]


def test_a_plane_passes_through_the_network_in_parts():
    """All its 289 points at once need gigabytes where images are large."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU())
    one = Network(normalization=Normalization([0.1], [0.7]), body=body, head=LayerHead(nn.Linear(8, 4))).eval()
    test = split(8, 1, 2, 3)
    labels = one(test.images.float() / 255).argmax(1)
    sizes: list[int] = []
    body.register_forward_pre_hook(lambda _body, inputs: sizes.append(len(inputs[0])))
    assert plane(one, Split(test.images, labels), CPU)
    assert max(sizes) == 17


def test_a_plane_has_the_network_at_every_point():
    """Rows go from x to z, columns from x to y; the unit prefers x."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU())
    head = nn.Linear(8, 4)
    one = Network(normalization=Normalization([0.1], [0.7]), body=body, head=LayerHead(head)).eval()
    test = split(60, 1, 2, 3)
    images = test.images.float() / 255
    predictions = one(images).argmax(1)
    assert len(set(predictions.tolist())) >= 3
    labels = predictions.clone()
    labels[0] += 1  # the first image is wrong
    corners = [next(i for i in range(1, 60) if labels[i] == label) for label in dict.fromkeys(labels[1:].tolist())][:3]
    activation, decision, *shown = plane(one, Split(test.images, labels % 4), CPU)
    x, y, z = images[corners]
    assert [array.label for array in shown] == predictions[corners].tolist()
    assert np.allclose(np.stack([array.values for array in shown]), images[corners])
    at_corners = one.features(images[corners])
    assert activation.number == int((at_corners[0] - at_corners[1:].max(0).values).argmax())
    for row, column in ((0, 0), (0, 16), (16, 0), (5, 9), (16, 16)):
        point = (x + column / 16 * (y - x) + row / 16 * (z - x))[None]
        assert activation.values[row, column] == pytest.approx(
            one.features(point)[0, activation.number].item(), abs=1e-5
        )
        assert decision.values[row, column] == int(one(point).argmax())


@pytest.mark.parametrize(
    ("labels", "corners"), [([0, 0, 1, 1], [0, 1, 0]), ([0, 0, 0, 0], [0, 0, 0]), ([0, 0, 2, 2], [])]
)
def test_a_plane_of_two_classes_has_three_images(labels, corners):
    """A third image of a class is taken; without three correctly classified images there is no plane."""
    layer = nn.Linear(1, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-10.0], [10.0], [0.0]]))
        layer.bias.copy_(torch.tensor([5.0, -5.0, -99.0]))
    pixels = [0, 20, 200, 255] if set(labels) != {0} else [0, 20, 30, 40]
    test = Split(torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None], torch.tensor(labels))
    found = plane(network(nn.Flatten(), layer), test, CPU)
    assert [array.label for array in found if array.kind == "corner"] == corners


def direct_scales(*, width: int, activation: nn.Module, stds: list[float]) -> list[float]:
    """Propagate the same inputs through layers with the same draws, with plain matrix products."""
    x = torch.randn(8, width, generator=generator("inspect", "depth", "inputs"))
    torch.manual_seed(derive_seed("inspect", "depth", "weights"))
    nn.Linear(width, width)  # torch draws weights for a new layer, which are replaced
    scales = [x.square().mean().sqrt().item()]
    for std in stds:
        x = activation(x @ (std * torch.randn(width, width)).T)
        scales.append(x.square().mean().sqrt().item())
    return scales


def test_scales_grow_as_theory_and_direct_computation_say():
    """With weights of variance 1, relu multiplies the scale by sqrt(width / 2): it overflows after 32 layers of 512."""
    found = output_scales(design_of(Spec("mnist_cnn", {})))
    assert found.name == DEFAULT
    assert found.value == 32
    growth = found.values[0, 1:31] / found.values[0, :30]
    assert np.exp(np.log(growth).mean()) == pytest.approx(16, rel=0.05)
    assert np.isinf(found.values[0, 32:]).all()
    assert ((found.values[1] > 0.3) & (found.values[1] < 2)).all()
    design = design_of(Spec("mnist_cnn", {"activation": {**RELOG, "start": 0.0}}))
    small = output_scales(design, layers=12, width=64)
    relog, moment = ReLog(beta=2.0, start=1.0), LayerFactory(activation={**RELOG, "start": 1.0}).moment
    initial = [64**-0.5, *[(64 * moment) ** -0.5] * 11]
    with torch.random.fork_rng():
        for scales, stds in zip(small.values, ([1.0] * 12, initial), strict=True):
            assert np.allclose(scales, direct_scales(width=64, activation=relog, stds=stds), rtol=1e-4)
    assert small.value is None


def test_only_units_with_closed_regions_fit_two_dots():
    """A linear unit is at chance, four ellipses and two intersections of half planes fit."""
    state = torch.get_rng_state()
    linear, logic = unit_maps(design_of(Spec("mnist_cnn", {})))
    closed, _ = unit_maps(design_of(Spec("mnist_cnn", {"unit": "elliptical", "folding": MAXOUT})))
    minima, _ = unit_maps(
        design_of(Spec("mnist_cnn", {"folding": {"name": "minmaxout", "min_over": 4, "max_over": 2}}))
    )
    assert torch.equal(state, torch.get_rng_state())
    assert minima.value > 0.95
    assert linear.value == pytest.approx(0.5, abs=0.1)
    assert closed.value > 0.9
    axis = np.linspace(-2, 2, 41)
    row, column = (np.abs(axis - 0.8).argmin() for _ in range(2))
    assert closed.values[row, column] > 0.9
    assert closed.values[20, 20] < 0.1
    assert closed.values[0, 40] < 0.1
    x, y = np.meshgrid(axis, axis)
    assert np.allclose(logic.values, np.maximum(0, [x + y, np.minimum(x, y), np.maximum(x, y)]), atol=1e-6)


def test_dots_are_apart_from_the_other_points():
    """A quarter of the points is on, inside a dot; the others are outside of both."""
    points, targets = dots()
    distance = torch.cdist(points, torch.tensor([[-0.8, -0.8], [0.8, 0.8]])).amin(1)
    assert (len(points), int(targets.sum())) == (256, 64)
    assert (distance[targets > 0] <= 0.35 + 1e-6).all()
    assert (distance[targets == 0] > 0.5).all()


def test_designs_have_full_strength_and_a_name():
    """Networks without these parts have none."""
    assert design_of(Spec("cnn", {})) is None
    assert design_of(Spec("lipschitz_cnn", {})) is None
    default = design_of(Spec("vgg", {}))
    assert default.name == DEFAULT
    design = design_of(
        Spec("mnist_cnn", {"unit": {"name": "elliptical", "start": -1.0, "stop": 0.5}, "activation": RELOG})
    )
    assert design.name == "elliptical relog(2)"
    assert (design.unit["start"], design.activation["start"]) == (0.5, 1.0)
    assert design_of(Spec("vgg", {"folding": "minmaxout"})).name == "linear minmaxout(2, 4) relu"
