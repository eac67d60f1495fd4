"""Distances in a norm, steepest directions, and norm balls cut with the box [0, 1]: projection and random points."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softshrink

from gauntlet.core.randomness import normal, uniform

SPARSE_SHARE = 0.05
"""Share of the entries of a gradient that a step in L1 moves."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `(B,)` so that it broadcasts against `(B, ...)`."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def distances(perturbation: Tensor) -> dict[str, Tensor]:
    """Return the size of each perturbation `(B, ...)` in the four norms, in pixel units: name to float64 `(B,)`."""
    flat = perturbation.detach().flatten(1).to(torch.float64)
    size = flat.abs()
    return {
        "l0": (flat != 0).sum(1).to(torch.float64),
        "l1": size.sum(1),
        "l2": torch.linalg.vector_norm(flat, dim=1),
        "linf": size.amax(1) if flat.shape[1] else flat.new_zeros(len(flat)),
    }


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Return the unit step of ascent for a gradient `(B, ...)`; zero where the gradient is zero.

    L-infinity and L2: the steepest step. L1: the steepest would move one entry only, which is slow, so the step is
    spread over the share SPARSE_SHARE of largest entries (Tramer and Boneh 2019, arXiv:1904.13000).
    """
    if norm == "linf":
        return gradient.sign()
    if norm == "l1":
        entries = math.prod(gradient.shape[1:])
        count = max(1, math.ceil(SPARSE_SHARE * entries))
        return sparse_direction(gradient, torch.full((len(gradient),), count, device=gradient.device))
    # A gradient's scale is arbitrary: dividing by its largest entry first keeps the squares from underflowing.
    largest = gradient.flatten(1).abs().amax(1)
    scaled = gradient / per_sample(torch.where(largest > 0, largest, 1.0), gradient)
    length = _size(scaled, norm)
    return scaled / per_sample(torch.where(length > 0, length, 1.0).to(scaled.dtype), gradient)


def _size(x: Tensor, norm: str) -> Tensor:
    """Return the L1 or L2 norm of each `(B, ...)`: float64 `(B,)`.

    The sum is float64 too: in float32, that of the squares of 150 000 equal entries is 1e-4 too small.
    """
    order = 1 if norm == "l1" else 2
    size: Tensor = torch.linalg.vector_norm(x.flatten(1), order, dim=1, dtype=torch.float64)
    return size


def sparse_direction(gradient: Tensor, counts: Tensor) -> Tensor:
    """Return a step of L1 size 1, spread evenly over the `counts` (int64 `(B,)`, 1 or more) largest entries, by sign.

    All entries as large as the last of these move too, so ties do not depend on their order.
    """
    flat = gradient.flatten(1)
    size = flat.abs()
    smallest = size.sort(1, descending=True).values.gather(1, counts[:, None] - 1)
    signs = torch.where(size >= smallest, flat.sign(), 0.0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp(min=1.0)).reshape(gradient.shape)


class Ball:
    """The points within `epsilon` of each origin `(B, ...)` in a norm, cut with the box [0, 1]."""

    def __init__(self, origin: Tensor, epsilon: float, norm: str) -> None:
        self.origin, self.epsilon, self.norm = origin, epsilon, norm
        if norm == "linf":
            self.low, self.high = (origin - epsilon).clamp_(min=0.0), (origin + epsilon).clamp_(max=1.0)

    def select(self, rows: Tensor) -> Ball:
        """Return the balls of some samples: `rows` is int64 `(A,)`."""
        ball = Ball.__new__(Ball)
        ball.origin, ball.epsilon, ball.norm = self.origin[rows], self.epsilon, self.norm
        if self.norm == "linf":
            ball.low, ball.high = self.low[rows], self.high[rows]
        return ball

    def project(self, x: Tensor) -> Tensor:
        """Project points `(B, ...)` into ball and box.

        L-infinity and L1: to the nearest such point. L2: to the ball first, then to the box: clipping moves no pixel
        away from its origin, which lies in the box, so the point stays in the ball.
        """
        if self.norm == "linf":
            return torch.clamp(x, self.low, self.high)
        step = x - self.origin
        inside = per_sample(_size(step, self.norm) <= self.epsilon, x)
        if self.norm == "l1":
            step = step.sign() * _shrunk(step.abs(), self._room(step), self.epsilon)
        factor = (self.epsilon / _size(step, self.norm).clamp(min=torch.finfo(x.dtype).tiny)).clamp_(max=1.0)
        return torch.where(inside, x.clamp(0.0, 1.0), self.moved(step * per_sample(factor.to(x.dtype), x)))

    def moved(self, step: Tensor) -> Tensor:
        """Return the points after a step `(B, ...)` from the origins, clipped to the box.

        In L1 and L2, entries are rounded towards their origins, by at most half of the distance of two numbers below 1
        before they are rounded to the nearest. That alone would leave the ball: in L1 the errors of all entries add up,
        for 150 000 entries to 1e-4; in L2 a step that is a little too long would stay as it is.
        """
        if self.norm != "linf":
            step = softshrink(step, torch.finfo(step.dtype).eps / 4)
        return (self.origin + step).clamp_(0.0, 1.0)

    def direction(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the unit step of ascent at points x; in L1 it moves only entries that the box lets move."""
        if self.norm == "l1":
            gradient = torch.where(((gradient > 0) & (x < 1)) | ((gradient < 0) & (x > 0)), gradient, 0.0)
        return direction(gradient, self.norm)

    def full_step(self, gradient: Tensor) -> Tensor:
        """Return the point after one step of size `epsilon` from the origin along the gradient.

        In L1 this point of ball and box maximizes the linear function: the entries with the largest gradient move to
        the edge of the box, one after the other, until `epsilon` is used up.
        """
        if self.norm != "l1":
            return self.project(self.origin + self.epsilon * direction(gradient, self.norm))
        flat, room = gradient.flatten(1), self._room(gradient).flatten(1)
        order = flat.abs().argsort(dim=1, descending=True, stable=True)
        available = room.gather(1, order)
        used_before = available.cumsum(1) - available
        used = torch.minimum((self.epsilon - used_before).clamp_(min=0.0), available)
        step = torch.zeros_like(flat).scatter_(1, order, used).reshape(gradient.shape) * gradient.sign()
        return self.project(self.origin + step)

    def random_point(self, keys: Tensor, *, stream: str) -> Tensor:
        """Sample one point per ball `(B, ...)`, point b from `keys[b]` alone.

        L-infinity: uniform in ball and box. L1 and L2: uniform in the ball, then clipped to the box.
        """
        shape, dtype = self.origin.shape[1:], self.origin.dtype
        if self.norm == "linf":
            return self.low + (self.high - self.low) * uniform(keys, shape, stream=stream, dtype=dtype)
        if self.norm == "l1":
            step = _uniform_in_l1(keys, math.prod(shape), stream=f"{stream}:direction").to(dtype)
            return self.moved(self.epsilon * step.reshape(-1, *shape))
        unit = direction(normal(keys, shape, stream=f"{stream}:direction", dtype=dtype), "l2")
        radius = uniform(keys, (1,), stream=f"{stream}:radius", dtype=dtype)[:, 0] ** (1 / math.prod(shape))
        return self.moved(unit * per_sample(self.epsilon * radius, unit))

    def _room(self, step: Tensor) -> Tensor:
        """Return each origin entry's distance to the edge of the box that a step, by its sign, moves towards."""
        return torch.where(step > 0, 1 - self.origin, self.origin)


def _shrunk(size: Tensor, room: Tensor, epsilon: float) -> Tensor:
    """Project sizes onto {0 <= s <= room, sum(s) <= epsilon}, sample by sample: all `(B, ...)`, none negative.

    The nearest point is clamp(size - t, 0, room) for the smallest t >= 0 that meets the budget. Its sum is piecewise
    linear and decreasing in t: an entry is positive below t = size and equals its room below t = size - room. With
    these 2 D breakpoints sorted, cumulative sums find the piece that meets the budget. The problem: Croce and Hein
    2021, arXiv:2103.01208.
    """
    size, room, shape = size.flatten(1), room.flatten(1), size.shape
    breakpoints, order = torch.cat([size, size - room], 1).sort(dim=1, descending=True)
    rising = torch.where(order < size.shape[1], 1, -1).cumsum(1)[:, :-1]
    sums = ((breakpoints[:, :-1] - breakpoints[:, 1:]) * rising).cumsum(1)  # the sum at t = breakpoints[:, 1:]
    piece = (sums <= epsilon).sum(1, keepdim=True).clamp_(max=sums.shape[1] - 1)
    slope = rising.gather(1, piece).clamp_(min=1)
    shift = (breakpoints.gather(1, piece + 1) + (sums.gather(1, piece) - epsilon) / slope).clamp_(min=0.0)
    return torch.minimum((size - shift).clamp_(min=0.0), room).reshape(shape)


def _uniform_in_l1(keys: Tensor, entries: int, *, stream: str) -> Tensor:
    """Sample `(B, entries)` float64 uniform in the unit ball of L1.

    Laplace variables, divided by the sum of their absolute values and one more (Barthe et al. 2005,
    arXiv:math/0503650).
    """
    half = 2.0**-24
    even = uniform(keys, (entries + 1,), stream=stream, low=half - 1, high=half + 1, dtype=torch.float64)
    laplace = -even.sign() * torch.log1p(-even.abs())
    return laplace[:, :-1] / laplace.abs().sum(1, keepdim=True)


def scaled_to(noise: Tensor, epsilon: float, norm: str) -> Tensor:
    """Scale each noise image `(B, ...)` to size `epsilon` in the norm."""
    size = distances(noise)[norm].to(noise.dtype)
    return noise * per_sample(epsilon / size.clamp(min=torch.finfo(noise.dtype).tiny), noise)
