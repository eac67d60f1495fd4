"""The 1-Lipschitz network: its measured constant, its layers against deel-torchlip's, its export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deel import torchlip
from torch import Tensor, nn

from gauntlet.config.variants import Training
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
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
    # Layers whose singular values are not all 1 shrink most directions: 0.02 is idle for none of them.
    orthonormal = all(float(singular(layer)[-1] / singular(layer)[0]) > 0.5 for layer in weighted(exact))
    assert measured > (0.1 if orthonormal else 0.02) * claim.constant


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
    """The claim is 1 without normalization and 1 / std with it, never less."""
    nominal = 1 / float(network.normalization.std.double().min())
    assert nominal <= network.lipschitz.constant <= nominal * (1 + 1e-4)


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
