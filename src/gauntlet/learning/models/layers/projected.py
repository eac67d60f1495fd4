"""Plain layers that are projected onto their constraint after every step, in place of a reparametrization."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

BJORCK_ITERATIONS = 15
"""Maximum number of Björck iterations in deel-torchlip 1.0.5."""
EPS = 1e-3
"""Change below which the iterations of deel-torchlip stop."""

Orthonormal = tuple[int, float, float]
"""Arguments of `orthonormalize`: iterations, eps_bjorck, eps_spectral."""


class ProjectedConv2d(nn.Conv2d):
    """Convolution with zero padding that preserves the image size; `factor`-Lipschitz in L2 from the start.

    The kernel k x k as a matrix `(out, in k k)` is orthonormalized and divided by k, since each pixel is in at most k²
    patches (Serrurier et al. 2021, arXiv:2006.06520, appendix).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        orthonormal: Orthonormal,
        factor: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding="same")
        self.orthonormal, self.factor = orthonormal, factor
        _initialize(self)
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Project the kernel onto the constraint."""
        matrix = orthonormalize(self.weight.flatten(1), *self.orthonormal)
        self.weight.copy_(self.factor * matrix.reshape_as(self.weight) / math.sqrt(math.prod(self.kernel_size)))


class ProjectedLinear(nn.Linear):
    """Dense layer that is `factor`-Lipschitz in L2 initially and after `project`.

    If `orthonormal` is None, each output is `factor`-Lipschitz separately: the rows have this norm.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool,
        orthonormal: Orthonormal | None,
        factor: float = 1.0,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias)
        self.orthonormal, self.factor = orthonormal, factor
        _initialize(self)
        self.project()

    @torch.no_grad()
    def project(self) -> None:
        """Project the weight onto the constraint."""
        if self.orthonormal is None:
            self.weight.div_(self.weight.norm(dim=1, keepdim=True)).mul_(self.factor)
        else:
            self.weight.copy_(self.factor * orthonormalize(self.weight, *self.orthonormal))


def orthonormalize(matrix: Tensor, iterations: int, eps_bjorck: float, eps_spectral: float) -> Tensor:
    """Divide a matrix `(M, N)` by its largest singular value, then move all of them toward 1 by Björck's iteration.

    At most `iterations` are run, stopped by a change below `eps_bjorck`; with 0 the matrix is divided only. The result
    is a function of the matrix alone: the power iteration starts from its longest row and stops at a change below
    `eps_spectral`. Source: Björck and Bowie 1971, SIAM J. Numer. Anal. 8, 358-364; Anil et al. 2019, arXiv:1811.05381.
    """
    from deel.torchlip.normalizers import bjorck_normalization, spectral_normalization

    longest = matrix[matrix.norm(dim=1).argmax()][None]
    divided: Tensor = spectral_normalization(matrix, longest, eps_spectral)[0]
    if iterations == 0:
        return divided
    orthonormal: Tensor = bjorck_normalization(divided, eps_bjorck, maxiter=iterations)
    return orthonormal


def _initialize(layer: nn.Conv2d | nn.Linear) -> None:
    """Initialize the weights as deel-torchlip's layers do, from torch's global generator."""
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
