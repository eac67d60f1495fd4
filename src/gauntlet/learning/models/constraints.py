"""Constraints that keep layers 1-Lipschitz in training, by layers of deel-torchlip where it has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from gauntlet.learning.models.layers.projected import (
    BJORCK_ITERATIONS,
    EPS,
    Orthonormal,
    ProjectedConv2d,
    ProjectedLinear,
)

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class ConstrainedLayers:
    """Factory of layers with one kind of constraint.

    ``spectral``: in every forward pass the weight is computed from a free parameter: divided by its largest singular
    value (estimated by one step of power iteration per pass, and not below `eps_spectral`), then orthonormalized by at
    most `bjorck_iterations` of Björck's iteration, stopped by a change below `eps_bjorck`; with 0 it is divided only.
    ``frobenius``: likewise, but divided by the Frobenius norm, which bounds the largest singular value; this is cheap,
    but shrinks most directions. ``projection``: the weight itself is the parameter, and is orthonormalized as in
    ``spectral`` after every step, with a separate power iteration that stops at a change below `eps_spectral`.

    Each layer is 1-Lipschitz, times `factor`.
    """

    kind: Literal["spectral", "frobenius", "projection"] = "spectral"
    bjorck_iterations: int = BJORCK_ITERATIONS
    eps_bjorck: float = EPS
    eps_spectral: float = EPS
    factor: float = 1.0

    def convolution(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
        """Build a convolution with bias and zero padding that preserves the image size."""
        from deel.torchlip import FrobeniusConv2d, SpectralConv2d

        layer: nn.Conv2d
        if self.kind == "projection":
            return ProjectedConv2d(
                in_channels, out_channels, kernel_size, orthonormal=self._orthonormal(), factor=self.factor
            )
        shape = {"kernel_size": kernel_size, "padding": "same", "k_coef_lip": self.factor}
        if self.kind == "frobenius":
            layer = FrobeniusConv2d(in_channels, out_channels, **shape)
            return layer
        layer = SpectralConv2d(in_channels, out_channels, **shape, **self._stops())
        return self._with_iterations(layer)

    def dense(self, in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
        """Build a dense layer."""
        from deel.torchlip import FrobeniusLinear, SpectralLinear

        layer: nn.Linear
        if self.kind == "projection":
            return ProjectedLinear(
                in_features, out_features, bias=bias, orthonormal=self._orthonormal(), factor=self.factor
            )
        options = {"bias": bias, "k_coef_lip": self.factor}
        if self.kind == "frobenius":
            layer = FrobeniusLinear(in_features, out_features, disjoint_neurons=False, **options)
            return layer
        layer = SpectralLinear(in_features, out_features, **options, **self._stops())
        return self._with_iterations(layer)

    def disjoint(self, in_features: int, out_features: int, *, bias: bool = False) -> nn.Linear:
        """Build a dense layer in which each output is constrained, but not the vector of outputs."""
        from deel.torchlip import FrobeniusLinear

        if self.kind == "projection":
            return ProjectedLinear(in_features, out_features, bias=bias, orthonormal=None, factor=self.factor)
        layer: nn.Linear = FrobeniusLinear(
            in_features, out_features, bias=bias, disjoint_neurons=True, k_coef_lip=self.factor
        )
        return layer

    def _orthonormal(self) -> Orthonormal:
        return self.bjorck_iterations, self.eps_bjorck, self.eps_spectral

    def _stops(self) -> dict[str, float | None]:
        """Return the stopping criteria as deel-torchlip's options; there no criterion means no iteration."""
        return {"eps_spectral": self.eps_spectral, "eps_bjorck": self.eps_bjorck if self.bjorck_iterations else None}

    def _with_iterations(self, layer: Layer) -> Layer:
        """Change the number of iterations of a layer of deel-torchlip, which fixes it."""
        if self.bjorck_iterations not in (0, BJORCK_ITERATIONS):
            parametrizations: Any = layer.parametrizations["weight"]  # type: ignore[index]
            # The first one divides by the largest singular value.
            parametrizations[1] = _Bjorck(parametrizations[1]._w_bjorck, self.bjorck_iterations, self.eps_bjorck)
        return layer


class _Bjorck(nn.Module):
    """deel-torchlip's parametrization with another number of iterations; evaluation uses the last pass's result."""

    _w_bjorck: Tensor

    def __init__(self, weight: Tensor, iterations: int, eps: float) -> None:
        super().__init__()
        self.iterations, self.eps = iterations, eps
        self.register_buffer("_w_bjorck", weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Orthonormalize a weight `(M, ...)`, as a matrix, whose largest singular value is about 1."""
        from deel.torchlip.normalizers import bjorck_normalization

        if not self.training:
            return self._w_bjorck
        orthonormal: Tensor = bjorck_normalization(weight, self.eps, maxiter=self.iterations)
        self._w_bjorck = orthonormal.detach()
        return orthonormal
