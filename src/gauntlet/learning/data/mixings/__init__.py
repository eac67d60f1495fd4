"""Mixings of the images of a batch, whose targets are mixed in the same shares; one per file.

A mixing is a function ``(images (B, C, H, W), generator, *, options) -> Mixture``, with random draws per image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.registry import MIXINGS, Spec


@dataclass(frozen=True)
class Mixture:
    """Mixed images `(B, C, H, W)`: image b has the share `shares[b]` of the target of image b.

    The rest is the target of image `partners[b]`, int64 `(B,)`. Shares `(B,)` are in [0, 1]. Raises InputError for
    partners or shares of another shape.
    """

    images: Tensor
    partners: Tensor
    shares: Tensor

    def __post_init__(self) -> None:
        expected = self.images.shape[:1]
        for name, values in (("partners", self.partners), ("shares", self.shares)):
            if values.shape != expected:
                problem = f"a mixture of {len(self.images)} images has {name} of shape {tuple(values.shape)}"
                raise InputError(
                    problem, where="training.mixing", remedy=f"return one of each image, {tuple(expected)}"
                )


Mixing = Callable[[Tensor, torch.Generator], Mixture]


def build_mixing(spec: Spec) -> Mixing:
    """Build a mixing from its name and options."""
    return partial(MIXINGS.load(spec.name), **spec.options)


def draw_partners(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a random permutation of the batch, int64 `(B,)`."""
    return torch.randperm(len(images), generator=generator, device=images.device)


def draw_shares(images: Tensor, generator: torch.Generator, alpha: float) -> Tensor:
    """Draw one share per image, `(B,)`, from the distribution Beta(alpha, alpha)."""
    # The logarithm of a draw from Gamma(alpha) is that of Gamma(alpha + 1) plus log(U) / alpha: a small alpha would
    # underflow otherwise. A ratio of two such draws has the Beta distribution.
    size = (2, len(images))
    rates = torch.full(size, alpha + 1, dtype=torch.float64, device=images.device)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64, device=images.device)
    logs = torch._standard_gamma(rates, generator=generator).log() + uniform.clamp_min(1e-300).log() / alpha
    shares: Tensor = torch.sigmoid(logs[0] - logs[1])
    return shares.to(images.dtype)
