"""Distances, and the balls that bound a perturbation: projection and random points, always inside the box [0, 1]."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gauntlet.randomness import normal, uniform

NORMS = ("l0", "l1", "l2", "linf")


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `(B,)` so that it broadcasts against `(B, ...)`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def distances(perturbation: Tensor) -> dict[str, Tensor]:
    """Measure each perturbation `(B, ...)` in the four norms, in pixel units: name to float64 `(B,)`."""
    flat = perturbation.detach().flatten(1).to(torch.float64)
    size = flat.abs()
    return {
        "l0": (flat != 0).sum(1).to(torch.float64),
        "l1": size.sum(1),
        "l2": torch.linalg.vector_norm(flat, dim=1),
        "linf": size.amax(1) if flat.shape[1] else flat.new_zeros(len(flat)),
    }


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Turn a gradient `(B, ...)` into the unit step of steepest ascent; where it is zero, the step is zero."""
    if norm == "linf":
        return gradient.sign()
    # A gradient's scale is arbitrary: dividing by its largest entry first keeps the squares from underflowing.
    largest = gradient.flatten(1).abs().amax(1)
    scaled = gradient / per_sample(torch.where(largest > 0, largest, 1.0), gradient)
    length = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return scaled / per_sample(torch.where(length > 0, length, 1.0), gradient)


class Ball:
    """The points within `epsilon` of each origin `(B, ...)` in a norm, cut with the box [0, 1]."""

    def __init__(self, origin: Tensor, epsilon: float, norm: str) -> None:
        self.origin, self.epsilon, self.norm = origin, epsilon, norm
        if norm == "linf":
            self.low, self.high = (origin - epsilon).clamp_(min=0.0), (origin + epsilon).clamp_(max=1.0)

    def select(self, rows: Tensor) -> Ball:
        """Keep the balls of some samples: `rows` is int64 `(A,)`."""
        kept = Ball.__new__(Ball)
        kept.origin, kept.epsilon, kept.norm = self.origin[rows], self.epsilon, self.norm
        if self.norm == "linf":
            kept.low, kept.high = self.low[rows], self.high[rows]
        return kept

    def project(self, x: Tensor) -> Tensor:
        """Move points `(B, ...)` into ball and box: for L-infinity the nearest such point, for L2 ball first, then box.

        Clipping to the box moves no pixel away from its origin, which lies in the box, so the point stays in the ball.
        """
        if self.norm == "linf":
            return torch.clamp(x, self.low, self.high)
        change = x - self.origin
        length = torch.linalg.vector_norm(change.flatten(1), dim=1)
        factor = (self.epsilon / length.clamp(min=torch.finfo(x.dtype).tiny)).clamp_(max=1.0)
        return (self.origin + change * per_sample(factor, x)).clamp_(0.0, 1.0)

    def random_point(self, keys: Tensor, *, stream: str) -> Tensor:
        """Draw one point per ball `(B, ...)`, sample b from `keys[b]` alone.

        L-infinity: uniform in ball and box. L2: uniform in the ball (radius from U^(1/D)), then clipped to the box.
        """
        shape, dtype = self.origin.shape[1:], self.origin.dtype
        if self.norm == "linf":
            return self.low + (self.high - self.low) * uniform(keys, shape, stream=stream, dtype=dtype)
        way = direction(normal(keys, shape, stream=f"{stream}:direction", dtype=dtype), "l2")
        radius = uniform(keys, (1,), stream=f"{stream}:radius", dtype=dtype)[:, 0] ** (1 / math.prod(shape))
        return (self.origin + way * per_sample(self.epsilon * radius, way)).clamp_(0.0, 1.0)


def scaled_to(noise: Tensor, epsilon: float, norm: str) -> Tensor:
    """Scale each noise image `(B, ...)` to size `epsilon` in the norm."""
    size = distances(noise)[norm].to(noise.dtype)
    return noise * per_sample(epsilon / size.clamp(min=torch.finfo(noise.dtype).tiny), noise)
