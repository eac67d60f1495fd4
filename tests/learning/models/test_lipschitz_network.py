"""The 1-Lipschitz network: its measured constant, its layers against deel-torchlip's, its export."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from deel import torchlip
from torch import Tensor, nn

from gauntlet.config.variants import Training
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.batch_lip_norm import CenteredScale, settle
from gauntlet.learning.models.layers.batch_lip_norm import batch_lip_norm as build_batch_lip_norm
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.pooling import L2NormPool2d, MaxPool2d, ScaledAvgPool2d
from gauntlet.learning.models.layers.residual import Mixture, ResidualBlock, build_residual
from gauntlet.learning.models.lipschitz import LipschitzNetwork, effective_weight, layer_bound
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec

OPTIONS: list[dict[str, Any]] = [
    {},
    {"output": "disjoint"},
    {"activation": "full_sort"},
    {"pooling": "average"},
    {"normalize": "data"},
    {"widths": [4, 6], "hidden": 10},
    {"constraint": "projection"},
    {"constraint": "projection", "output": "disjoint"},
    {"constraint": "frobenius"},
    {"bjorck_iterations": 4},
    {"bjorck_iterations": 0},
    {"k_coef_lip": 5.0},
    {"k_coef_lip": 0.2, "constraint": "frobenius", "normalize": "data"},
    {"k_coef_lip": 5.0, "constraint": "projection", "output": "disjoint"},
    {"k_coef_lip": 3.0, "bjorck_iterations": 4, "output": "disjoint"},
    {"residual_blocks": 1, "k_coef_lip": 2.0},
    {"output_bias": True, "bjorck_iterations": 4},
    {"output_bias": True, "output": "disjoint", "constraint": "projection"},
    {"residual_blocks": 1, "constraint": "projection"},
    {"batch_lip_norm": True},
    {"batch_lip_norm": True, "residual_blocks": 1, "k_coef_lip": 2.0, "constraint": "frobenius"},
    {"batch_lip_norm": True, "constraint": "projection", "output": "disjoint", "normalize": "data"},
]


def trained(options: dict[str, Any], *, steps: int = 25) -> LipschitzNetwork:
    """Return a network after some training steps on the digits, in training mode."""
    data = prepare(Spec("sklearn_digits"))
    train, validation = data.splits["train"], data.splits["validation"]
    normalize = options.get("normalize")
    spec = Spec("lipschitz_cnn", {key: value for key, value in options.items() if key != "normalize"})
    network = build(
        spec, image_shape=train.image_shape, num_classes=10, mean=data.mean, std=data.std, normalize=normalize
    )
    settings = Training(epochs=10, batch_size=64, optimizer=Spec("adam", {"lr": 0.02}))
    run = TrainingRun(network, Spec("hkr"), train, validation, settings=settings, seed=0)
    while steps > 0:
        run.run_steps(min(steps, 15))
        steps -= 15
        run.step = 0
    assert isinstance(network, LipschitzNetwork)
    return network


def weighted(network: nn.Module) -> list[nn.Module]:
    """List the plain layers with weights of an exported network."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def singular(layer: nn.Module) -> Tensor:
    """Return the singular values of a layer's weight as a matrix, in descending order."""
    return torch.linalg.svdvals(effective_weight(layer).flatten(1))


@pytest.fixture(scope="module", params=OPTIONS, ids=str)
def network(request: pytest.FixtureRequest) -> LipschitzNetwork:
    """Each variant of the network after a short training, in evaluation mode."""
    return trained(request.param).eval()


def jacobian_norms(network: nn.Module, x: Tensor) -> tuple[float, float]:
    """Measure the largest spectral norm and row norm of the Jacobian over a batch, in float64."""
    jacobians = torch.stack([torch.autograd.functional.jacobian(network, image[None]).reshape(10, -1) for image in x])
    return float(torch.linalg.matrix_norm(jacobians, 2).max()), float(jacobians.norm(dim=2).max())


def test_the_measured_constant_is_at_most_the_claim(network: LipschitzNetwork) -> None:
    """No Jacobian exceeds the claim in pixel scale, and a good part of the claim is reached."""
    claim = network.lipschitz
    exact = network.export().double()
    x = torch.rand(24, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    joint, single = jacobian_norms(exact, x)
    measured = joint if claim.head == "joint" else single
    assert measured <= claim.constant
    # Layers whose singular values are not all 1 shrink most directions: 0.01 is idle for none of them.
    orthonormal = all(float(singular(layer)[-1] / singular(layer)[0]) > 0.5 for layer in weighted(exact))
    assert measured > (0.1 if orthonormal else 0.01) * claim.constant


def test_far_and_near_pairs_stay_below_the_claim(network: LipschitzNetwork) -> None:
    """|f(x) - f(z)| <= constant |x - z| for pairs at all distances."""
    claim, exact = network.lipschitz, network.export().double()
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(64, 1, 8, 8, dtype=torch.float64, generator=draw)
    for scale in (1e-4, 1e-2, 1.0):
        z = x + scale * torch.randn(x.shape, dtype=torch.float64, generator=draw)
        change = exact(x) - exact(z)
        size = change.norm(dim=1) if claim.head == "joint" else change.abs().amax(dim=1)
        assert (size <= claim.constant * (x - z).flatten(1).norm(dim=1)).all()


def test_the_claim_is_the_nominal_constant_to_rounding(network: LipschitzNetwork) -> None:
    """The claim is `k_coef_lip` without normalization and over std with it, never less; batch scales come on top."""
    nominal = 1 / float(network.normalization.std.double().min())
    scales = [float(layer.scale) for layer in network.export().modules() if isinstance(layer, CenteredScale)]
    if not scales:
        nominal *= network.constrained_to
        assert nominal <= network.lipschitz.constant <= nominal * (1 + 1e-4)
        return
    assert network.constrained_to == 0
    assert network.lipschitz.constant == pytest.approx(nominal * by_hand(network.export()), rel=1e-9)
    assert any(abs(scale - 1) > 0.05 for scale in scales), "the scales are idle: choose another training"


def by_hand(exported: nn.Module) -> float:
    """Return the product of the bounds of an exported network's layers, written out here."""
    product = 1.0
    for layer in exported.children() if isinstance(exported, nn.Sequential) else exported.body.children():  # type: ignore[union-attr]
        if isinstance(layer, nn.Conv2d):
            product *= 3 * float(torch.linalg.svdvals(layer.weight.detach().double().flatten(1))[0])
        elif isinstance(layer, nn.Linear):
            product *= float(torch.linalg.svdvals(layer.weight.detach().double())[0])
        elif isinstance(layer, CenteredScale):
            product *= float(layer.scale)
        elif isinstance(layer, ResidualBlock):
            share = 1 / (1 + math.exp(-float(layer.mixture.alpha)))  # type: ignore[arg-type]
            product *= share + (1 - share) * by_hand(layer.layers)
    if not isinstance(exported, nn.Sequential):
        last = exported.head.layer.weight.detach().double()  # type: ignore[union-attr, operator]
        product *= float(last.norm(dim=1).max() if exported.output == "disjoint" else torch.linalg.svdvals(last)[0])
    return product


@pytest.mark.parametrize("constraint", ["spectral", "frobenius", "projection"])
@pytest.mark.parametrize("output", ["joint", "disjoint"])
def test_the_constant_is_spread_over_the_layers(constraint: str, output: str) -> None:
    """Each of the four layers has the fourth root of `k_coef_lip`, and the network reaches a good part of it."""
    network = trained({"k_coef_lip": 16.0, "constraint": constraint, "output": output}, steps=1).eval().export()
    for layer in weighted(network):
        weight = layer.weight.detach().double().flatten(1)  # type: ignore[union-attr, operator]
        kernel = 3 if isinstance(layer, nn.Conv2d) else 1
        rows = layer is network.head.layer and output == "disjoint"
        size = weight.norm(dim=1).max() if rows else weight.norm() if constraint == "frobenius" else None
        largest = float(torch.linalg.svdvals(weight)[0] if size is None else size)
        assert kernel * largest == pytest.approx(2.0, rel=2e-3)


def test_the_constant_scales_certificates_and_not_the_layers_of_one() -> None:
    """With `k_coef_lip` 1 the layers are those without it, bit by bit."""
    plain, one = (trained(options, steps=2).eval().export().state_dict() for options in ({}, {"k_coef_lip": 1.0}))
    assert all(torch.equal(tensor, one[name]) for name, tensor in plain.items())


@pytest.mark.parametrize("training", [True, False])
def test_a_residual_block_and_its_plain_form_equal_the_formula(training: bool) -> None:
    """Outputs and the gradient of the share equal s x + (1 - s) f(x) with the sigmoid written out."""
    draw = torch.Generator().manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), GroupSort2())
    block, x = (
        ResidualBlock(layers, build_residual() if training else Mixture()),
        torch.randn(2, 4, 5, 5, generator=draw),
    )
    alpha = torch.tensor(0.7, requires_grad=True)
    with torch.no_grad():
        block.mixture.alpha.copy_(alpha)  # type: ignore[operator, union-attr]
    share = 1 / (1 + torch.exp(-alpha))
    expected = share * x + (1 - share) * layers(x)
    torch.testing.assert_close(block(x), expected)
    if training:
        found = torch.autograd.grad(block(x).square().sum(), block.mixture.alpha)  # type: ignore[arg-type]
        torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), alpha))


def test_batch_statistics_are_those_of_the_epoch() -> None:
    """In training the scale is that of the batch, in evaluation that of the mean over the epoch's batches."""
    draw, layer = torch.Generator().manual_seed(0), build_batch_lip_norm(3)
    batches = [
        torch.randn(8, 3, 5, 5, generator=draw) * torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1) for _ in "abc"
    ]
    for x in batches:
        variance = x.transpose(0, 1).flatten(1).var(dim=1)
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        torch.testing.assert_close(layer.train()(x), (x - mean) / variance.max().sqrt(), rtol=1e-4, atol=1e-5)
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in batches]).mean(0)
    square = torch.stack([x.square().mean(dim=(0, 2, 3)) for x in batches]).mean(0)
    expected = ((square - mean**2) * (600 / 599)).max().rsqrt()
    plain = settle(layer.eval())
    torch.testing.assert_close(plain.scale, expected)
    torch.testing.assert_close(plain.mean, mean)
    assert torch.equal(plain(batches[0]), layer(batches[0]))
    assert layer_bound(layer) == layer_bound(plain) == float(plain.scale)


def test_the_claim_is_computed_from_the_weights() -> None:
    """Weights that break the constraint raise the claim in proportion."""
    exported = trained({}).eval().export()
    before = exported.lipschitz
    assert before is not None
    with torch.no_grad():
        exported.head.layer.weight *= 3  # type: ignore[union-attr, operator]
    after = exported.lipschitz
    assert after is not None
    assert after.constant == pytest.approx(3 * before.constant, rel=1e-4)


def test_the_exported_network_has_plain_layers_and_equal_outputs(network: LipschitzNetwork) -> None:
    """In the same memory layout the outputs are equal bit by bit."""
    network.to(memory_format=torch.contiguous_format)
    exported = network.export()
    x = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(exported(x), network(x))
    assert all(type(layer).__module__.startswith(("torch.nn", "gauntlet")) for layer in exported.modules())
    assert not any(nn.utils.parametrize.is_parametrized(layer) for layer in exported.modules())
    assert exported.export() is exported
    assert exported.lipschitz == network.lipschitz


def test_evaluation_sees_the_weights_after_the_last_step() -> None:
    """Leaving training updates the layers; claim and export change nothing."""
    network = trained({}, steps=1)
    linear = network.head.layer
    cached_before_eval = linear.parametrizations.weight[1]._w_bjorck.clone()  # type: ignore[union-attr, index]
    network.eval()
    weight = linear.weight
    assert isinstance(weight, Tensor)
    assert not torch.equal(weight, cached_before_eval)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    _ = network.lipschitz, network.export(), network.eval()
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GroupSort2(), torchlip.GroupSort2()),
        (FullSort(), torchlip.FullSort()),
        (L2NormPool2d(), torchlip.ScaledL2NormPool2d(2)),
        (ScaledAvgPool2d(), torchlip.ScaledAvgPool2d(2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_agree_with_torchlip(ours: nn.Module, theirs: nn.Module) -> None:
    """Outputs and gradients equal those of the library's layers, on even and odd sizes."""
    for side in (6, 7):
        x = torch.randn(3, 4, side, side, generator=torch.Generator().manual_seed(side)).requires_grad_()
        y, expected = ours(x), theirs(x)
        assert torch.allclose(y, expected, atol=1e-6)
        direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(9))
        (gradient,) = torch.autograd.grad((y * direction).sum(), x)
        (expected_gradient,) = torch.autograd.grad((expected * direction).sum(), x)
        assert torch.allclose(gradient, expected_gradient, atol=1e-5)


@pytest.mark.parametrize("layer", [GroupSort2(), FullSort(), L2NormPool2d(), ScaledAvgPool2d()], ids=str)
def test_layers_take_channels_last_and_dense_inputs(layer: nn.Module) -> None:
    """The memory format changes nothing, and sorting takes (B, F) too."""
    x = torch.randn(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layer(x.contiguous(memory_format=torch.channels_last)), layer(x), atol=1e-6)
    if isinstance(layer, GroupSort2 | FullSort):
        assert layer(x[:, :, 0, 0]).shape == (3, 4)


def test_convolution_bound_holds_against_its_matrix() -> None:
    """The bound of a zero-padded convolution is at least the largest singular value of its matrix."""
    convolution = nn.Conv2d(2, 3, 3, padding="same").double()
    basis = torch.eye(2 * 6 * 6, dtype=torch.float64).reshape(-1, 2, 6, 6)
    with torch.no_grad():
        matrix = (convolution(basis) - convolution(torch.zeros_like(basis))).flatten(1)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    assert exact <= layer_bound(convolution)
    assert layer_bound(convolution) <= 3 * exact


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(2, 2, 3, stride=2), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(2), nn.GELU()],
    ids=str,
)
def test_a_layer_without_a_proven_bound_is_refused(layer: nn.Module) -> None:
    """A layer whose bound is unknown raises instead of counting as 1."""
    with pytest.raises(GauntletError, match="no Lipschitz bound is known"):
        layer_bound(layer)


def test_the_network_has_the_sizes_of_its_source() -> None:
    """On Fashion-MNIST it has 16 and 32 channels, 1568 features to 64, and 64 to 10 without bias."""
    exported = build(Spec("lipschitz_cnn"), image_shape=(1, 28, 28), num_classes=10, mean=(0.3,), std=(0.4,)).export()
    shapes = [tuple(tensor.shape) for name, tensor in exported.named_parameters() if name.endswith("weight")]
    assert shapes == [(16, 1, 3, 3), (32, 16, 3, 3), (64, 1568), (10, 64)]
    assert exported.head.layer.bias is None  # type: ignore[union-attr]


@pytest.mark.parametrize("options", [{"widths": [15, 32]}, {"widths": [16, 33]}, {"hidden": 65}], ids=str)
def test_odd_widths_are_refused_where_pairs_are_sorted(options: dict[str, Any]) -> None:
    """GroupSort2 cannot pair an odd number of channels."""
    with pytest.raises(InputError, match="must be even"):
        build(Spec("lipschitz_cnn", options), image_shape=(1, 8, 8), num_classes=10, mean=(0,), std=(1,))


@pytest.mark.parametrize("layer", [GroupSort2(), L2NormPool2d(), MaxPool2d()], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("side", [4, 5])
def test_layers_have_exact_first_second_and_batched_derivatives(layer: nn.Module, side: int) -> None:
    """They equal finite differences in float64; derivatives under vmap, over samples and outputs, equal the others."""
    x = torch.randn(2, 2, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(layer, x.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(layer, x.clone().requires_grad_())
    jacobian = torch.autograd.functional.jacobian(layer, x)
    assert torch.equal(torch.func.jacrev(layer)(x), jacobian)

    def squared(image: Tensor) -> Tensor:
        total: Tensor = layer(image[None]).square().sum()
        return total

    each = torch.func.vmap(torch.func.grad(squared))(x)
    assert torch.allclose(each, torch.autograd.functional.jacobian(lambda x: layer(x).square().sum(), x))


@pytest.mark.parametrize("side", [6, 7])
def test_maxima_of_windows_and_their_gradients_are_those_of_torch(side: int) -> None:
    """Also for equal values, the first of which gets the gradient, and in both memory formats."""
    x = torch.randn(3, 4, side, side, generator=torch.Generator().manual_seed(0)).round()
    direction = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    for layout in (torch.contiguous_format, torch.channels_last):
        images = x.contiguous(memory_format=layout).requires_grad_()
        expected = nn.MaxPool2d(2)(images)
        assert torch.equal(MaxPool2d()(images), expected)
        found = torch.autograd.grad(MaxPool2d()(images), images, direction)[0]
        assert torch.equal(found, torch.autograd.grad(expected, images, direction)[0])


@pytest.mark.parametrize("side", [4, 5])
def test_window_norms_can_be_differentiated_twice(side: int) -> None:
    """Second derivatives equal finite differences in float64; an all-zero window has gradient 0."""
    x = torch.randn(2, 2, side, side, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(L2NormPool2d(), x.requires_grad_())
    assert torch.autograd.gradgradcheck(L2NormPool2d(), x)
    dark = torch.zeros(1, 1, side, side, requires_grad=True)
    L2NormPool2d()(dark).sum().backward()
    assert dark.grad is not None
    assert dark.grad.count_nonzero() == 0
