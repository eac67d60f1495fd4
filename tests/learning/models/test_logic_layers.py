"""Activations, units and foldings: values computed by hand, and the contract of each registered one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.learning.models.activations import build_activation
from gauntlet.learning.models.foldings import build_folding
from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.learning.models.units import build_unit
from gauntlet.learning.models.units.second_order import SecondOrder
from gauntlet.registry import ACTIVATIONS, FOLDINGS, UNITS

KINDS = ["dense", "conv"]


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Return standard normal values without ties."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def advanced(module: nn.Module, step: int) -> nn.Module:
    """Return the module with its ramps after the given number of steps."""
    for part in module.modules():
        if isinstance(part, Ramp):
            part.step.fill_(step)
    return module


def unit_layer(name: str, kind: str, *, step: int = 600) -> nn.Module:
    """Return a layer of 4 inputs and 3 outputs, at a strength between its ends."""
    linear = nn.Linear(4, 3) if kind == "dense" else nn.Conv2d(4, 3, 3, padding=1)
    return advanced(build_unit({"name": name}).wrap(linear), step)


def inputs(kind: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return inputs of such a layer."""
    return normal(2, 4, dtype=dtype) if kind == "dense" else normal(2, 4, 5, 5, dtype=dtype)


class TestActivations:
    """max(0, x) and log(1 + b max(0, x)) / b."""

    @pytest.mark.parametrize(("beta", "step", "effective"), [(2.0, 1000, 2.0), (2.0, 250, 0.5), (1.0, 0, 1e-4)])
    def test_relog_equals_its_formula_at_the_ramps_strength(self, beta: float, step: int, effective: float) -> None:
        """It is 0 for negative values, the logarithm computed by hand for others, and nearly relu at first."""
        relog = advanced(build_activation({"name": "relog", "beta": beta}), step)
        values = [-3.0, 0.0, 0.5, 4.0]
        expected = [0.0, 0.0, *(math.log(1 + effective * value) / effective for value in values[2:])]
        assert relog(torch.tensor(values)).tolist() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize(
        ("options", "formula"),
        [
            ({"beta": 1.0, "base": 10.0}, lambda x: torch.log10(x.relu() + 1)),
            ({"beta": 100.0, "base": 10.0}, lambda x: torch.log10(x.relu() + 0.01) + 2),
            ({"beta": 100.0, "base": 100.0}, lambda x: torch.log10(x.relu() + 0.01) / 2 + 1),
            ({"beta": 10.0, "base": 10.0}, lambda x: (x.relu() + 1 / 10).log() / math.log(10) + 1),
            ({"beta": 2.0, "shift": -0.5}, lambda x: (1 + 2 * x.relu()).log() / 2 - 0.5),
            ({"beta": 10.0, "base": 10.0, "shift": -0.5}, lambda x: torch.log10(x.relu() + 0.1) + 0.5),
        ],
    )
    def test_relog_has_the_forms_of_the_journal(self, options: dict[str, float], formula: Any) -> None:
        """The entries of 5, 9 and 25 October and the author's ReLog(n), at full strength: values and gradients."""
        relog = build_activation({"name": "relog", "start": 1.0, **options})
        x = torch.tensor([-3.0, -0.1, 0.2, 1.0, 30.0], dtype=torch.float64, requires_grad=True)
        assert torch.allclose(relog(x), formula(x), atol=1e-6)
        found, expected = (torch.autograd.grad(y.sum(), x)[0] for y in (relog(x), formula(x)))
        assert torch.allclose(found, expected, rtol=1e-5)

    def test_elu_is_an_exponential_below_zero(self) -> None:
        """It is x above zero and alpha (exp(x) - 1) below."""
        found = build_activation({"name": "elu", "alpha": 2.0})(torch.tensor([-1.0, 0.0, 3.0])).tolist()
        assert found == pytest.approx([2 * (math.exp(-1) - 1), 0.0, 3.0])

    def test_relu_cuts_at_zero(self) -> None:
        """The default activation is max(0, x)."""
        assert build_activation(None)(torch.tensor([-1.0, 0.0, 2.0])).tolist() == [0.0, 0.0, 2.0]

    @pytest.mark.parametrize("name", ACTIVATIONS.names())
    def test_every_activation_keeps_shape_dtype_and_layout_and_has_its_gradient(self, name: str) -> None:
        """Gradients equal finite differences in float64, without NaN at zero, for dense and convolutional inputs."""
        activation = advanced(build_activation({"name": name}), 600)
        x = normal(2, 4, 5, 5)
        assert activation(x).shape == x.shape
        assert torch.equal(activation(x.contiguous(memory_format=torch.channels_last)), activation(x))
        assert activation(x.double()).dtype == torch.float64
        assert torch.autograd.gradcheck(activation, normal(3, 4, dtype=torch.float64).requires_grad_())
        zero = torch.zeros(3, requires_grad=True)
        activation(zero).sum().backward()
        assert zero.grad is not None
        assert zero.grad.isfinite().all()


class TestUnits:
    """W x + b, and with squares of the inputs."""

    @pytest.mark.parametrize(("name", "sign"), [("elliptical", 1.0), ("quadratic", -1.0)])
    def test_dense_unit_by_hand(self, name: str, sign: float) -> None:
        """3 * 2 - 1 * 4 + 0.5 - a (2 * 4 + |-1| * 16) + a; with V of any sign the second square adds."""
        layer = unit_layer(name, "dense", step=250)
        assert isinstance(layer, SecondOrder)
        with torch.no_grad():
            layer.linear.weight.copy_(torch.tensor([[3.0, -1.0, 0.0, 0.0]] * 3))
            assert layer.linear.bias is not None
            layer.linear.bias.fill_(0.5)
            layer.curvature.copy_(torch.tensor([[2.0, -1.0, 0.0, 0.0]] * 3))
        response = layer(torch.tensor([[2.0, 4.0, 7.0, -7.0]]))
        assert response[0].tolist() == pytest.approx([2.5 - 0.25 * (8 + sign * 16) + 0.25] * 3)

    @pytest.mark.parametrize("name", ["elliptical", "quadratic"])
    def test_convolution_is_the_dense_unit_on_each_patch(self, name: str) -> None:
        """One output pixel of the convolution equals the dense layer on the pixel's patch."""
        conv, dense = unit_layer(name, "conv"), unit_layer(name, "dense")
        assert isinstance(conv, SecondOrder)
        assert isinstance(dense, SecondOrder)
        dense.linear = nn.Linear(36, 3)
        with torch.no_grad():
            dense.linear.weight.copy_(conv.linear.weight.flatten(1))
            assert conv.linear.bias is not None
            dense.linear.bias.copy_(conv.linear.bias)
        dense.curvature = nn.Parameter(conv.curvature.detach().flatten(1))
        x = inputs("conv")
        assert torch.allclose(conv(x)[:, :, 2, 3], dense(x[:, :, 1:4, 2:5].flatten(1)), atol=1e-5)

    @pytest.mark.parametrize("name", ["elliptical", "quadratic"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_a_grouped_convolution_is_its_formula(self, name: str, bias: bool) -> None:
        """W x + b - a V (x * x) + a as two convolutions, with strides, groups, and with or without b; gradients too."""
        linear = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias)
        layer = advanced(build_unit({"name": name}).wrap(linear), 250).double()
        assert isinstance(layer, SecondOrder)
        x = inputs("conv", torch.float64).requires_grad_()
        v = layer.curvature.abs() if name == "elliptical" else layer.curvature
        curved = nn.functional.conv2d(x * x, v, None, stride=2, padding=1, groups=2)
        expected, leaves = linear(x) + 0.25 * (1 - curved), [x, *layer.parameters()]
        direction = normal(*expected.shape, dtype=torch.float64, seed=1)
        assert torch.allclose(layer(x), expected)
        gradients = torch.autograd.grad(layer(x), leaves, direction)
        for found, wanted in zip(gradients, torch.autograd.grad(expected, leaves, direction), strict=True):
            assert torch.allclose(found, wanted)

    def test_a_spherical_unit_is_an_elliptical_unit_of_half_the_strength(self) -> None:
        """With all |V| equal to 1 / fan-in; its convolution is the dense unit on each patch, also at the border."""
        for kind, fan_in in (("dense", 4), ("conv", 36)):
            spherical, elliptical = unit_layer("spherical", kind, step=500), unit_layer("elliptical", kind, step=250)
            assert isinstance(elliptical, SecondOrder)
            elliptical.linear.load_state_dict(spherical.linear.state_dict())  # type: ignore[union-attr, operator]
            with torch.no_grad():
                elliptical.curvature.fill_(-1 / fan_in)
            assert torch.allclose(spherical(inputs(kind)), elliptical(inputs(kind)), atol=1e-5)

    def test_an_elliptical_unit_is_positive_inside_an_ellipsoid_only(self) -> None:
        """Far out it is negative in every direction; a quadratic unit need not be."""
        directions = nn.functional.normalize(normal(200, 4), dim=1)
        assert (unit_layer("elliptical", "dense")(1e4 * directions) < 0).all()
        assert (unit_layer("quadratic", "dense")(1e4 * directions) > 0).any()

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", UNITS.names())
    def test_every_unit_keeps_the_shape_and_has_its_gradient(self, name: str, kind: str) -> None:
        """The shape is that of its linear layer, and gradients equal finite differences in float64."""
        layer, x = unit_layer(name, kind), inputs(kind)
        (linear,) = (module for module in layer.modules() if isinstance(module, nn.Linear | nn.Conv2d))
        assert layer(x).shape == linear(x).shape
        if kind == "conv":
            assert torch.allclose(layer(x.contiguous(memory_format=torch.channels_last)), layer(x), atol=1e-6)
        exact = layer.double()
        names, parameters = zip(*exact.named_parameters(), strict=True)

        def response(x: Tensor, *values: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(exact, dict(zip(names, values, strict=True)), (x,))
            return found

        leaves = [parameter.detach().clone().requires_grad_() for parameter in parameters]
        x = (inputs(kind, torch.float64)[:1, :, :3, :3] if kind == "conv" else inputs(kind, torch.float64)).clone()
        assert torch.autograd.gradcheck(response, (x.requires_grad_(), *leaves))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("name", UNITS.names())
    def test_every_unit_starts_as_its_linear_layer(self, name: str, kind: str) -> None:
        """Squares have nearly no weight before the ramp rises."""
        layer, x = unit_layer(name, kind, step=0), inputs(kind)
        (linear,) = (module for module in layer.modules() if isinstance(module, nn.Linear | nn.Conv2d))
        assert torch.allclose(layer(x), linear(x), atol=1e-3)


class TestFoldings:
    """Groups of neighboring channels become one."""

    def test_maxout_takes_the_largest_of_neighbors(self) -> None:
        """Six channels are folded in groups of three."""
        maxout = build_folding({"name": "maxout", "pieces": 3})
        assert maxout(torch.tensor([[1.0, 5.0, 2.0, -4.0, -3.0, -6.0]])).tolist() == [[5.0, -3.0]]

    def test_minmaxout_takes_minima_of_neighbors_first(self) -> None:
        """``minmaxout_2_3``: minima of pairs are 1, 2, -6 and 0, 3, -1, and maxima of threes 2 and 3."""
        folding = build_folding({"name": "minmaxout", "min_over": 2, "max_over": 3})
        assert folding.pieces == 6
        row = [1.0, 5.0, 2.0, 4.0, -3.0, -6.0, 0.0, 9.0, 3.0, 3.0, -1.0, 8.0]
        assert folding(torch.tensor([row])).tolist() == [[2.0, 3.0]]

    @pytest.mark.parametrize("name", FOLDINGS.names())
    def test_every_folding_makes_one_channel_of_its_pieces(self, name: str) -> None:
        """Gradients equal finite differences in float64, for dense and convolutional inputs."""
        folding = build_folding({"name": name})
        x = normal(2, 3 * folding.pieces, 4, 4)
        assert folding(x).shape == (2, 3, 4, 4)
        assert torch.equal(folding(x.contiguous(memory_format=torch.channels_last)), folding(x))
        assert torch.equal(folding(x[:, :, 1, 2]), folding(x)[:, :, 1, 2])
        exact = normal(2, 3 * folding.pieces, dtype=torch.float64).requires_grad_()
        assert folding(exact).dtype == torch.float64
        assert torch.autograd.gradcheck(folding, exact)

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
    def test_gradients_of_foldings_are_those_of_torch_also_for_ties(self, layout: torch.memory_format) -> None:
        """Pieces that are equal share the gradient; second derivatives and batched ones agree too."""
        x = normal(2, 16, 4, 4, dtype=torch.float64).round().contiguous(memory_format=layout).requires_grad_()
        direction = normal(2, 2, 4, 4, dtype=torch.float64, seed=1)
        folding = build_folding({"name": "minmaxout", "min_over": 2, "max_over": 4})
        expected = x.unflatten(1, (-1, 4, 2)).amin(3).amax(2)
        assert torch.equal(folding(x), expected)
        (gradient,) = torch.autograd.grad(expected, x, direction)
        assert gradient.count_nonzero() > direction.numel()
        assert torch.equal(torch.autograd.grad(folding(x), x, direction)[0], gradient)
        distinct = normal(2, 8, 2, 1, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradgradcheck(folding, distinct)
        jacobian = torch.func.jacrev(folding)(distinct.detach())
        assert torch.equal(jacobian, torch.autograd.functional.jacobian(folding, distinct.detach()))
