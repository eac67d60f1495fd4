"""Regularizers: values computed by hand, the layers they apply to, gradients, and training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from gauntlet.config.variants import Training
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import LayerHead, Network
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.regularizers import build_regularizer, weights_and_biases
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import REGULARIZERS, Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
SMALL = Spec("cnn", {"widths": [4], "head": {"name": "softmax", "hidden": 8}})
QUICK = Training(epochs=3, batch_size=64)


def by_hand() -> Network:
    """Return two layers with known weights, one with a bias, and normalizations that do not count."""
    conv, dense = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([3.0, -1.0]).reshape(2, 1, 1, 1))
        dense.weight.copy_(torch.tensor([[1.0, -2.0], [0.0, 4.0]]))
        dense.bias.copy_(torch.tensor([-3.0, 1.0]))
    body = nn.Sequential(conv, nn.BatchNorm2d(2), nn.LayerNorm([2, 1, 1]), nn.RMSNorm([2, 1, 1]))
    return Network(normalization=Normalization([0.0], [1.0]), body=body, head=LayerHead(dense))


def built(spec: Spec = SMALL, *, seed: int = 0) -> Network:
    """Return a network for the digits."""
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=seed)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (Spec("l1", {"strength": 0.5}), 0.5 * (4 + 7)),
        (Spec("l2", {"strength": 0.5}), 0.5 * (10 + 21)),
        (Spec("max_margin", {"l1": 2.0, "l2": 0.0}), 2 * (4 / 2 + 7 / 4)),
        (Spec("max_margin", {"l1": 0.0, "l2": 3.0}), 3 * (10 / 2 + 21 / 4)),
        (Spec("max_margin", {"l1": 2.0, "l2": 3.0}), 2 * (4 / 2 + 7 / 4) + 3 * (10 / 2 + 21 / 4)),
        (Spec("max_fit", {"l1": 2.0, "l2": 3.0, "bias": 0.0}), 2 * (4 / 2 + 7 / 4) + 3 * (10 / 2 + 21 / 4)),
        (Spec("max_fit", {"l1": 0.0, "l2": 0.0, "bias": 0.5}), 0.5 * -1.0),
    ],
)
def test_penalties_have_the_values_computed_by_hand(spec: Spec, value: float) -> None:
    """L1 and L2 are sums, others means per layer; the bias is signed; normalizations are left out."""
    assert build_regularizer(spec).penalty(by_hand()).item() == pytest.approx(value)


@pytest.mark.parametrize("name", REGULARIZERS.names())
def test_gradients_are_right_in_float64(name: str) -> None:
    """The penalty has the network's dtype, and gradients equal finite differences."""
    regularizer, network = build_regularizer(Spec(name)), by_hand().double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.123  # away from zero, where |w| has no derivative

    class Penalty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> Tensor:
            return regularizer.penalty(self.network)

    penalty = Penalty()
    names = [name for name, _ in penalty.named_parameters()]
    assert penalty().dtype == torch.float64

    def of(*values: Tensor) -> Tensor:
        return functional_call(penalty, dict(zip(names, values, strict=True)), ())

    assert torch.autograd.gradcheck(of, tuple(value.detach().requires_grad_() for value in penalty.parameters()))


@pytest.mark.parametrize("unit", ["elliptical", "quadratic"])
def test_the_curvature_counts_as_one_more_weight(unit: str) -> None:
    """Per layer, mean |W| + mean |V| and mean W² + mean V² of second-order units, in values and gradients."""
    network = built(Spec("mnist_cnn", {"widths": [2, 3], "unit": {"name": unit}}))
    units = [module for module in network.modules() if isinstance(module, SecondOrder)]
    assert len(units) == 3
    expected = torch.zeros(())
    for module in units:
        for weight in (module.linear.weight, module.curvature):
            expected = expected + 2 * weight.abs().sum() / weight.numel() + 3 * weight.square().sum() / weight.numel()
        assert module.linear.bias is not None
        expected = expected + 0.5 * module.linear.bias.sum() / len(module.linear.bias)
    penalty = build_regularizer(Spec("max_fit", {"l1": 2.0, "l2": 3.0, "bias": 0.5})).penalty(network)
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-6)
    curvatures = [module.curvature for module in units]
    for found, wanted in zip(
        torch.autograd.grad(penalty, curvatures), torch.autograd.grad(expected, curvatures), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_layers_of_a_users_network_are_found() -> None:
    """Convolution and dense layer of a user-defined class are penalized, and batch normalization is not."""
    shapes = [tuple(weight.shape) for weight, _ in weights_and_biases(built(Spec("tests.support.user_networks:Plain")))]
    assert shapes == [(4, 1, 3, 3), (10, 16)]


def test_a_frozen_layer_does_not_count() -> None:
    """Frozen weights are not penalized."""
    network = by_hand()
    network.head.layer.weight.requires_grad_(False)
    assert [tuple(weight.shape) for weight, _ in weights_and_biases(network)] == [(2, 1, 1, 1)]


def test_a_parametrized_layer_is_penalized_by_its_weight_in_use() -> None:
    """A spectral layer's normalized weight is penalized, with one power iteration per step."""
    network = by_hand()
    network.head.layer = parametrizations.spectral_norm(nn.Linear(2, 2, bias=False))
    value = build_regularizer(Spec("l2", {"strength": 1.0})).penalty(network.eval())
    assert value.item() == pytest.approx(10 + network.head.layer.weight.square().sum().item())


def test_a_step_computes_constrained_weights_once() -> None:
    """Penalized or not, a spectral network has the same power iterations."""

    def after_a_step(regularizers: list[Spec]) -> dict[str, Tensor]:
        network = built(Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}))
        settings = replace(QUICK, optimizer=Spec("sgd", {"lr": 1e-30}), regularizers=regularizers)
        TrainingRun(network, Spec("hkr"), *SPLITS, settings=settings, seed=0).run_steps(1)
        return dict(network.named_buffers())

    plain, penalized = after_a_step([]), after_a_step([Spec("l1"), Spec("max_fit")])
    assert plain
    assert all(torch.equal(buffer, penalized[name]) for name, buffer in plain.items())


def test_a_regularizer_starts_at_its_epoch() -> None:
    """Earlier epochs are unchanged; from then on the sum of penalties is recorded."""
    late = [Spec("max_fit", {"l1": 1.0, "start_epoch": 3})]
    both = [*late, Spec("l2", {"strength": 0.1, "start_epoch": 2})]
    rows = {
        name: fit(
            built(), Spec("cross_entropy"), *SPLITS, settings=replace(QUICK, regularizers=specs), seed=0
        ).history.to_pylist()
        for name, specs in {"none": [], "late": late, "both": both}.items()
    }
    assert [row["penalty"] for row in rows["none"]] == [None] * 3
    assert [row["penalty"] is None for row in rows["late"]] == [True, True, False]
    assert [row["penalty"] is None for row in rows["both"]] == [True, False, False]
    losses = {name: [row["train_loss"] for row in found] for name, found in rows.items()}
    assert losses["late"][:2] == losses["none"][:2]
    assert losses["late"][2] != losses["none"][2]
    assert losses["both"][0] == losses["none"][0]


def test_the_recorded_loss_is_without_the_penalty() -> None:
    """With constant weights, loss and penalty are recorded separately."""
    still = replace(QUICK, epochs=1, optimizer=Spec("sgd", {"lr": 1e-30}))
    spec = Spec("max_margin", {"l1": 5.0})
    network = built()
    penalty = build_regularizer(spec).penalty(network).item()
    with_it = fit(network, Spec("cross_entropy"), *SPLITS, settings=replace(still, regularizers=[spec]), seed=0)
    without = fit(built(), Spec("cross_entropy"), *SPLITS, settings=still, seed=0)
    assert with_it.history["train_loss"] == without.history["train_loss"]
    assert with_it.history["penalty"].to_pylist() == [pytest.approx(penalty)]


@pytest.mark.parametrize("name", REGULARIZERS.names())
def test_training_makes_the_penalty_smaller(name: str) -> None:
    """Each regularizer lowers its penalty on the trained network."""
    model = REGULARIZERS.entry(name).options_model
    spec = Spec(name, {option: 1.0 for option in model.model_fields if option != "start_epoch"})
    networks = [
        fit(built(), Spec("cross_entropy"), *SPLITS, settings=replace(QUICK, regularizers=specs), seed=0).network
        for specs in ([], [spec])
    ]
    plain, regularized = (build_regularizer(spec).penalty(network).item() for network in networks)
    assert regularized < plain
    assert tensor_digest(networks[0].state_dict()) != tensor_digest(networks[1].state_dict())
