"""Ways to keep a network's layers 1-Lipschitz while it is trained; the layers are deel-torchlip's where it has any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from gauntlet.learning.models.layers.projected import BJORCK_ITERATIONS, EPS, ProjectedConv2d, ProjectedLinear

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class ConstrainedLayers:
    """Makes the layers of one kind of constraint.

    ``spectral``: the weight is a function of a free parameter, computed in every pass: divided by its largest singular
    value (one step of power iteration a pass, never by less than `eps_spectral`), then orthonormalised by Björck's
    iteration, at most `bjorck_iterations` times, ended by a change below `eps_bjorck`; with 0 it is divided only.
    ``frobenius``: likewise a function: divided by its Frobenius norm, which bounds the largest singular value; cheap,
    but most directions are shrunk. ``projection``: the weight itself is the parameter, and is put through what
    ``spectral`` does after every step, with a power iteration of its own that ends below `eps_spectral`.
    """

    kind: Literal["spectral", "frobenius", "projection"] = "spectral"
    bjorck_iterations: int = BJORCK_ITERATIONS
    eps_bjorck: float = EPS
    eps_spectral: float = EPS

    def convolution(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Conv2d:
        """Make a 1-Lipschitz convolution with bias that keeps the image's size by zeros around it."""
        from deel.torchlip import FrobeniusConv2d, SpectralConv2d

        layer: nn.Conv2d
        if self.kind == "projection":
            return ProjectedConv2d(in_channels, out_channels, kernel_size, orthonormal=self._orthonormal())
        if self.kind == "frobenius":
            layer = FrobeniusConv2d(in_channels, out_channels, kernel_size, padding="same")
            return layer
        layer = SpectralConv2d(in_channels, out_channels, kernel_size, padding="same", **self._stops())
        return self._with_iterations(layer)

    def dense(self, in_features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
        """Make a 1-Lipschitz dense layer."""
        from deel.torchlip import FrobeniusLinear, SpectralLinear

        layer: nn.Linear
        if self.kind == "projection":
            return ProjectedLinear(in_features, out_features, bias=bias, orthonormal=self._orthonormal())
        if self.kind == "frobenius":
            layer = FrobeniusLinear(in_features, out_features, bias=bias, disjoint_neurons=False)
            return layer
        layer = SpectralLinear(in_features, out_features, bias=bias, **self._stops())
        return self._with_iterations(layer)

    def disjoint(self, in_features: int, out_features: int) -> nn.Linear:
        """Make a dense layer without bias each of whose outputs is 1-Lipschitz; their vector is not."""
        from deel.torchlip import FrobeniusLinear

        if self.kind == "projection":
            return ProjectedLinear(in_features, out_features, bias=False, orthonormal=None)
        layer: nn.Linear = FrobeniusLinear(in_features, out_features, bias=False, disjoint_neurons=True)
        return layer

    def _orthonormal(self) -> tuple[int, float, float]:
        return self.bjorck_iterations, self.eps_bjorck, self.eps_spectral

    def _stops(self) -> dict[str, float | None]:
        """Spell the options as deel-torchlip does: no stopping criterion means no iteration."""
        return {"eps_spectral": self.eps_spectral, "eps_bjorck": self.eps_bjorck if self.bjorck_iterations else None}

    def _with_iterations(self, layer: Layer) -> Layer:
        """Give a layer of deel-torchlip, whose number of iterations is fixed, another one."""
        if self.bjorck_iterations not in (0, BJORCK_ITERATIONS):
            chain: Any = layer.parametrizations["weight"]  # type: ignore[index]
            # The second of its parametrisations; the division by the largest singular value stands before it.
            chain[1] = _Bjorck(chain[1]._w_bjorck, self.bjorck_iterations, self.eps_bjorck)
        return layer


class _Bjorck(nn.Module):
    """deel-torchlip's parametrisation with so many iterations at most; evaluation uses what the last pass found."""

    _w_bjorck: Tensor

    def __init__(self, weight: Tensor, iterations: int, eps: float) -> None:
        super().__init__()
        self.iterations, self.eps = iterations, eps
        self.register_buffer("_w_bjorck", weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Orthonormalise a weight `(M, ...)`, seen as a matrix, whose largest singular value is about 1."""
        from deel.torchlip.normalizers import bjorck_normalization

        if not self.training:
            return self._w_bjorck
        found: Tensor = bjorck_normalization(weight, self.eps, maxiter=self.iterations)
        self._w_bjorck = found.detach()
        return found
