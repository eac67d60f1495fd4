"""Constrained layers: values computed by hand, export, storage, and the constraint after every step."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from deel import torchlip
from deel.torchlip.normalizers import bjorck_normalization
from torch import Tensor, nn

from gauntlet.config.variants import Training
from gauntlet.core.errors import GauntletError
from gauntlet.learning.data.prepare import PreparedData, prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.models.constraints import ConstrainedLayers
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
from gauntlet.learning.models.layers.projected import ProjectedConv2d, ProjectedLinear, orthonormalize
from gauntlet.learning.models.lipschitz import LipschitzNetwork, effective_weight
from gauntlet.learning.models.weights import load_model, save_model
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import MODELS, Spec

CHOICES = ("constraint", "activation", "pooling", "output")
_OPTIONS = MODELS.entry("lipschitz_cnn").options_model.model_fields
VALUES = [get_args(_OPTIONS[name].annotation) for name in CHOICES]
COMBINATIONS = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*VALUES)]


@pytest.fixture(scope="module")
def few() -> PreparedData:
    """A part of the digits."""
    return prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 60})


def training(few: PreparedData, options: dict[str, Any], *, device: str = "cpu") -> TrainingRun:
    """Return a run on a small network."""
    spec = Spec("lipschitz_cnn", {"widths": [4, 6], "hidden": 8, **options})
    network = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=few.mean, std=few.std)
    settings = Training(epochs=3, batch_size=64, optimizer=Spec("adam", {"lr": 0.02}))
    splits = few.splits["train"], few.splits["validation"]
    return TrainingRun(network, Spec("hkr"), *splits, settings=settings, seed=0, device=device)


def singular_values(layer: nn.Module) -> Tensor:
    """Return the singular values of a layer's weight as a matrix."""
    return torch.linalg.svdvals(effective_weight(layer).double().flatten(1))


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(options.values()))
def test_export_and_storage_keep_every_combination(few: PreparedData, tmp_path: Path, options: dict[str, str]) -> None:
    """After some steps the exported and the loaded plain layers have the same outputs, bit by bit in one layout."""
    run = training(few, options)
    run.run_steps(4)
    network = run.network.eval()
    trained_layout = network(to_unit(few.splits["test"].images))
    network.to(memory_format=torch.contiguous_format)
    x = to_unit(few.splits["test"].images)
    with torch.no_grad():
        outputs, exported = network(x), network.export()
        save_model(network, tmp_path)
        loaded = load_model(tmp_path)
        assert {type(layer) for layer in exported.modules()} & {nn.Conv2d, nn.Linear} == {nn.Conv2d, nn.Linear}
        assert torch.equal(exported(x), outputs)
        assert torch.equal(loaded(x), outputs)
        assert torch.allclose(trained_layout, outputs, atol=1e-6)
    assert exported.lipschitz == loaded.lipschitz == network.lipschitz
    assert network.lipschitz is not None
    assert network.lipschitz.head == options["output"]
    assert 1 <= network.lipschitz.constant < 1 + 1e-5
    # A network that the steps had not moved would show nothing.
    assert not torch.equal(training(few, options).network.eval()(x), outputs)


@pytest.mark.parametrize("output", ["joint", "disjoint"])
def test_export_equals_that_of_torchlip(few: PreparedData, output: str) -> None:
    """The logits equal those of the library's export to float32 rounding."""
    run = training(few, {"output": output})
    run.run_steps(4)
    network = run.network.eval()
    x = to_unit(few.splits["test"].images)
    exported = network.export()
    with torch.no_grad():
        ours = exported(x)
        layers = [*network.body, network.head.layer]  # type: ignore[misc, list-item]
        plain = nn.Sequential(*(getattr(layer, "vanilla_export", lambda layer=layer: layer)() for layer in layers))
        theirs = plain(x)
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("output", ["joint", "disjoint"])
def test_a_projected_network_is_constrained_from_the_start_and_after_every_step(few: PreparedData, output: str) -> None:
    """The optimizer breaks the constraint, and `after_step`, called by the loop, restores it."""
    run = training(few, {"constraint": "projection", "output": output})
    network = run.network
    assert isinstance(network, LipschitzNetwork)

    def constant() -> float:
        claim = network.lipschitz
        return claim.constant

    assert constant() < 1 + 1e-5
    run.run_steps(3)
    assert constant() < 1 + 1e-5
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1
    assert constant() > 1.5
    network.after_step()
    assert constant() < 1 + 1e-5


def test_a_resumed_projected_training_ends_with_the_same_bits(few: PreparedData) -> None:
    """Projection has no state of its own."""
    whole, part, rest = (training(few, {"constraint": "projection"}) for _ in range(3))
    whole.run_steps(5)
    part.run_steps(2)
    rest.restore(part.state())
    rest.run_steps(3)
    ours, theirs = whole.network.state_dict(), rest.network.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_orthonormalization_by_hand() -> None:
    """diag(4, 2) is divided by 4; a step of Björck's takes s to 1.5 s - 0.5 s^3; many end at the identity."""
    matrix = torch.diag(torch.tensor([4.0, 2.0], dtype=torch.float64))
    divided = orthonormalize(matrix, 0, 1e-12, 1e-12)
    assert torch.allclose(divided, torch.diag(torch.tensor([1.0, 0.5], dtype=torch.float64)))
    once = orthonormalize(matrix, 1, 1e-12, 1e-12)
    assert torch.allclose(once, torch.diag(torch.tensor([1.0, 0.6875], dtype=torch.float64)))
    assert torch.allclose(orthonormalize(matrix, 15, 1e-12, 1e-12), torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6)])
def test_orthonormalization_gives_the_nearest_orthonormal_matrix(shape: tuple[int, int]) -> None:
    """The result is the polar factor U V' for any shape and global random state."""
    u, _, v = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    spread = u @ torch.diag(torch.linspace(0.3, 2.0, min(shape))) @ v
    found = orthonormalize(spread, 40, 1e-6, 1e-3)
    assert torch.allclose(found, u @ v, atol=1e-5)
    torch.rand(3)
    assert torch.equal(orthonormalize(spread, 40, 1e-6, 1e-3), found)


def test_projected_layers_by_hand() -> None:
    """Rows of disjoint outputs have norm 1, and a 3x3 kernel has singular values of 1/3."""
    rows = ProjectedLinear(2, 2, bias=False, orthonormal=None)
    with torch.no_grad():
        rows.weight.copy_(torch.tensor([[3.0, 4.0], [0.0, -2.0]]))
    rows.project()
    assert torch.allclose(rows.weight, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    convolution = ProjectedConv2d(2, 4, 3, orthonormal=(15, 1e-3, 1e-3))
    assert torch.allclose(singular_values(convolution), torch.full((4,), 1 / 3, dtype=torch.float64), atol=1e-5)


def test_frobenius_layers_by_hand() -> None:
    """The matrix has norm 1 and a kernel 1/3; with disjoint outputs each row has norm 1."""
    kind = ConstrainedLayers("frobenius")
    for layer, expected in (
        (kind.dense(2, 2), [[0.6, 0.0], [0.0, 0.8]]),
        (kind.disjoint(2, 2), [[1.0, 0.0], [0.0, 1.0]]),
    ):
        with torch.no_grad():
            layer.parametrizations.weight.original.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))  # type: ignore[union-attr]
        assert torch.allclose(effective_weight(layer), torch.tensor(expected))
    assert float(effective_weight(kind.convolution(2, 4)).norm()) == pytest.approx(1 / 3)


@pytest.mark.parametrize("iterations", [1, 3, 15])
def test_the_given_number_of_bjorck_iterations_is_applied(iterations: int) -> None:
    """A spectral layer's weight is the library's function of the weight divided by its norm."""
    torch.manual_seed(0)
    layer = ConstrainedLayers(bjorck_iterations=iterations, eps_bjorck=1e-9).dense(12, 8)
    with torch.no_grad():
        layer.parametrizations.weight.original.copy_(torch.randn(8, 12))  # type: ignore[union-attr]
        weight = layer.weight
        # Evaluation makes no power iteration, so it uses the vectors of this pass.
        layer.eval()
        divided = layer.parametrizations.weight[0](layer.parametrizations.weight.original)  # type: ignore[union-attr, index, operator]
        assert torch.equal(weight, bjorck_normalization(divided, 1e-9, maxiter=iterations))
        assert torch.equal(layer.weight, weight)


def test_without_bjorck_only_the_largest_singular_value_is_1() -> None:
    """With Björck iterations all singular values are 1."""
    for iterations, least, most in ((0, 0.0, 0.5), (15, 0.99, 1.01)):
        torch.manual_seed(0)
        layer = ConstrainedLayers(bjorck_iterations=iterations).dense(12, 8)
        with torch.no_grad():
            layer.parametrizations.weight.original.copy_(torch.diag(torch.linspace(0.3, 2, 12))[:8])  # type: ignore[union-attr]
            for _ in range(60):
                _ = layer.weight
        values = singular_values(layer)
        assert float(values[0]) == pytest.approx(1, abs=1e-3)
        assert least < float(values[-1]) < most


def test_default_layers_equal_those_of_torchlip() -> None:
    """The same draws give the weights of the library's layers."""
    torch.manual_seed(0)
    ours = [ConstrainedLayers().convolution(2, 4), ConstrainedLayers().dense(8, 4), ConstrainedLayers().disjoint(8, 4)]
    torch.manual_seed(0)
    theirs = [
        torchlip.SpectralConv2d(2, 4, 3, padding="same"),
        torchlip.SpectralLinear(8, 4),
        torchlip.FrobeniusLinear(8, 4, bias=False),
    ]
    for one, other in zip(ours, theirs, strict=True):
        state = other.state_dict()
        assert one.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())
        assert one.__class__.__bases__ == other.__class__.__bases__


STATELESS = [GroupSort2(), FullSort(), L2NormPool2d(), ScaledAvgPool2d()]


def test_activations_and_poolings_by_hand() -> None:
    """Sorted pairs, full sort, the root of a window's squares, twice its mean; an odd border is dropped."""
    channels = torch.tensor([[3.0, 1.0, 2.0, 5.0]])
    assert GroupSort2()(channels).tolist() == [[1.0, 3.0, 2.0, 5.0]]
    assert FullSort()(channels).tolist() == [[1.0, 2.0, 3.0, 5.0]]
    image = torch.tensor([[[[3.0, 4.0, 9.0], [0.0, 0.0, 9.0], [9.0, 9.0, 9.0]]]])
    assert L2NormPool2d()(image).tolist() == [[[[5.0]]]]
    assert ScaledAvgPool2d()(image).tolist() == [[[[3.5]]]]


@pytest.mark.parametrize("layer", STATELESS, ids=str)
def test_gradients_of_activations_and_poolings(layer: nn.Module) -> None:
    """Gradients equal finite differences in float64, and float64 is kept."""
    x = torch.randn(2, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert layer(x).dtype == torch.float64


KINDS = [ConstrainedLayers(kind) for kind in get_args(_OPTIONS["constraint"].annotation)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_constrained_layers_have_gradients_in_float64(kind: ConstrainedLayers) -> None:
    """Gradients to the input and the unconstrained weight, in evaluation for layers with a state."""
    torch.manual_seed(0)
    dense, convolution = kind.dense(4, 3).double().eval(), kind.convolution(2, 2).double().eval()
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, dtype=torch.float64, generator=draw).requires_grad_()
    image = torch.randn(1, 2, 3, 3, dtype=torch.float64, generator=draw).requires_grad_()
    assert torch.autograd.gradcheck(dense, x)
    assert torch.autograd.gradcheck(convolution, image)
    if kind.kind == "frobenius":
        parameter = dense.parametrizations.weight.original  # type: ignore[union-attr]

        def of_weight(weight: Tensor) -> Tensor:
            return torch.func.functional_call(dense, {"parametrizations.weight.original": weight}, x)

        assert torch.autograd.gradcheck(of_weight, parameter)


PAIRS = [
    *STATELESS,
    *(kind.convolution(4, 6).eval() for kind in KINDS),
    *(nn.Sequential(nn.Flatten(), kind.dense(144, 9)).eval() for kind in KINDS),
]


@pytest.mark.parametrize("layer", PAIRS, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_every_layer_is_1_lipschitz(layer: nn.Module, scale: float) -> None:
    """|f(x) - f(z)| <= |x - z| on random pairs, near and far, in both memory layouts."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, 6, 6, generator=draw)
    z = x + scale * torch.randn(x.shape, generator=draw)
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.no_grad():
            change = layer(x.contiguous(memory_format=layout)) - layer(z.contiguous(memory_format=layout))
        ratio = change.flatten(1).norm(dim=1) / (x - z).flatten(1).norm(dim=1)
        assert float(ratio.max()) <= 1 + 1e-4


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_single_outputs_are_1_lipschitz_and_not_less(kind: ConstrainedLayers) -> None:
    """Each row of disjoint heads has norm 1."""
    torch.manual_seed(0)
    weight = effective_weight(kind.disjoint(16, 10))
    assert torch.allclose(weight.norm(dim=1), torch.ones(10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda options: "-".join(options.values()))
def test_devices_agree(few: PreparedData, options: dict[str, str]) -> None:
    """The same steps on a GPU give the same constrained network to float32 rounding."""
    outputs = []
    for device in ("cpu", "cuda"):
        run = training(few, options, device=device)
        run.run_steps(2)
        with torch.no_grad():
            outputs.append(run.network.eval().export()(to_unit(few.splits["test"].images).to(device)).cpu())
        assert run.network.lipschitz is not None
        assert run.network.lipschitz.constant < 1 + 1e-5
    assert torch.allclose(outputs[0], outputs[1], atol=1e-2)


@pytest.mark.parametrize(
    "layer",
    [nn.BatchNorm2d(1), nn.LayerNorm(8), nn.InstanceNorm2d(1), nn.GELU(), nn.Sequential(nn.Identity()), nn.Dropout()],
    ids=lambda layer: type(layer).__name__,
)
def test_a_network_with_an_unproven_layer_has_no_constant(layer: nn.Module) -> None:
    """The constant is refused with the name of the unproven layer."""
    network = LipschitzNetwork(
        normalization=Normalization([0.0], [1.0]),
        body=nn.Sequential(ConstrainedLayers().convolution(1, 1), layer, nn.Flatten()),
        last=ConstrainedLayers().dense(64, 10),
        output="joint",
    )
    with pytest.raises(GauntletError, match=f"no Lipschitz bound is known for {type(layer).__name__}"):
        _ = network.eval().lipschitz
