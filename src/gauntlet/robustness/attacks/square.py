"""Square: random search over square windows, from scores alone.

Andriushchenko et al. 2020, arXiv:1912.00049, in its symbols: h is the side of a window, nu the perturbation, eta the
bump of equation 2. L1: Croce and Hein 2021, arXiv:2103.01208.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, scaled_to
from gauntlet.core.randomness import uniform
from gauntlet.registry import ATTACKS, Fraction, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import logit_margin

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries after which p is halved, in a run of _PUBLISHED_QUERIES."""
_PUBLISHED_QUERIES = 10_000
_BLOCK = 32
"""Queries whose random numbers are drawn at once."""
_POSITIONS = 5
"""Random numbers per query, other than signs: corners of two windows, and the orientation of a bump."""


@ATTACKS.register(
    "square",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    access="scores",
    batching="attack",
    search="local",
    source="Andriushchenko et al. 2020, arXiv:1912.00049; L1: Croce and Hein 2021, arXiv:2103.01208",
)
def square(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    queries: PositiveInt = 5000,
    p_init: Fraction = 0.8,
    restarts: PositiveInt = 1,
    rescale_schedule: bool = True,
) -> Tensor:
    """Change one random window per query, and keep changes that lower the margin z_y - max_{i != y} z_i.

    A window covers the share p of the image: p starts at `p_init` and is halved nine times, after queries 10 to 8000 of
    10 000; `rescale_schedule` scales these to the number of `queries`. A sample stops once it is confirmed adversarial;
    the others start again, `restarts` times. Cost per sample: `queries` forwards a restart, no backward. x is
    `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    x_adv = x.clone()
    robust = torch.arange(len(x), device=x.device)
    shares = [_share(query, queries if rescale_schedule else _PUBLISHED_QUERIES, p_init) for query in range(queries)]
    for restart in range(restarts):
        ball = Ball(x[robust], epsilon, norm)
        with model.subset(robust):
            x_adv[robust], still_robust = _search(
                model, ball, y[robust], keys[robust], shares=shares, stream=f"square:{restart}"
            )
        robust = robust[still_robust]
        if not len(robust):
            break
    return x_adv


def _search(
    model: AttackModel, ball: Ball, y: Tensor, keys: Tensor, *, shares: list[float], stream: str
) -> tuple[Tensor, Tensor]:
    """Search once; return the points `(B, ...)` and the indices of the samples still robust, int64 `(A,)`."""
    x_adv = ball.origin.clone()
    active = torch.arange(len(y), device=y.device)
    channels = x_adv.shape[1]
    proposals: _Proposals = _Squares() if ball.norm == "linf" else _Bumps(ball.norm)
    best = candidate = proposals.start(ball, keys, stream=stream)
    min_margin = torch.full((len(y),), torch.inf, dtype=x_adv.dtype, device=y.device)
    for query, share in enumerate(shares):
        if query % _BLOCK == 0:
            block = f"{stream}:{query // _BLOCK}"
            draws = uniform(keys, (_BLOCK, _POSITIONS + channels), stream=block, dtype=torch.float64)
        if query:
            candidate = proposals.propose(ball, best, draws[:, query % _BLOCK], share)
        with model.subset(active):
            logits = model.logits(candidate)
            adversarial = model.is_adversarial(logits, candidate, y)
        margin = logit_margin(logits, y)
        lower = margin < min_margin
        best = torch.where(lower[:, None, None, None], candidate, best)
        min_margin = torch.where(lower, margin, min_margin)
        if adversarial is not None:
            x_adv[active[adversarial]] = candidate[adversarial]
            rest = (~adversarial).nonzero()[:, 0]
            active, y, keys, draws, ball = active[rest], y[rest], keys[rest], draws[rest], ball.select(rest)
            best, min_margin = best[rest], min_margin[rest]
            if not len(active):
                return x_adv, active
    x_adv[active] = best
    return x_adv, active


def _share(query: int, queries: int, p_init: float) -> float:
    """Return p, the share of the image that the window of this query covers."""
    published_query = query * _PUBLISHED_QUERIES / queries
    return p_init * 0.5 ** sum(published_query > halving for halving in _HALVINGS)


class _Proposals(Protocol):
    """Sampling distribution of a norm: starting points, and candidates for the next query."""

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor: ...

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor: ...


class _Squares:
    """L-infinity (Algorithm 2): vertical stripes, then windows of one color, always at corners of the ball."""

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor:
        """Return vertical stripes of random sign."""
        _, channels, _, width = ball.origin.shape
        up = uniform(keys, (channels, 1, width), stream=f"{stream}:start") < 0.5
        return torch.where(up, ball.high, ball.low)

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor:
        """Return `best` with one window of a random color."""
        height, width = best.shape[2:]
        h = max(1, min(round(math.sqrt(share * height * width)), min(height, width) - 1))
        rows, columns = _interval(draws[:, 0], height, h), _interval(draws[:, 1], width, h)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        up = draws[:, _POSITIONS:, None, None] < 0.5
        corner = torch.where(up, ball.high, ball.low)
        # A window that has this color already would waste the query: it gets the opposite one.
        unchanged = ((corner == best) | ~inside).flatten(1).all(1)
        corner = torch.where(unchanged[:, None, None, None], torch.where(up, ball.low, ball.high), corner)
        return torch.where(inside, corner, best)


class _Bumps:
    """L2 (Algorithm 3) and L1: a grid of bumps, then the mass of window W2 moves to W1; the norm stays epsilon."""

    def __init__(self, norm: str) -> None:
        self.norm, self.p = norm, {"l1": 1, "l2": 2}[norm]

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor:
        """Return a grid of bumps of random sign, 5 along the shorter side."""
        _, channels, height, width = ball.origin.shape
        h = max(1, min(height, width) // 5)
        down, across = height // h, width // h
        signs = _signs(uniform(keys, (channels, down, across), stream=f"{stream}:start", dtype=torch.float64))
        eta = self._eta(h, ball.origin).repeat(down, across)
        nu = torch.zeros_like(ball.origin)
        top, left = (height - h * down) // 2, (width - h * across) // 2
        nu[:, :, top : top + h * down, left : left + h * across] = (
            signs.repeat_interleave(h, 2).repeat_interleave(h, 3) * eta
        )
        return ball.moved(scaled_to(nu, ball.epsilon, self.norm))

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor:
        """Return `best` with the mass of W2 moved to a new bump in W1."""
        _, channels, height, width = best.shape
        h = max(3, round(math.sqrt(share * height * width)))
        h = min(h + (h + 1) % 2, height, width)
        nu = (best - ball.origin).flatten(2)  # (A, C, H * W)
        w1, w2 = (
            _window(_corner(draws[:, 2 * i], height, h), _corner(draws[:, 2 * i + 1], width, h), width, h)
            .unsqueeze(1)
            .expand(-1, channels, -1)
            for i in range(2)
        )
        eta = self._eta(h, best)
        oriented = torch.where((draws[:, 4] < 0.5)[:, None, None], eta, eta.T).flatten(1)[:, None]  # (A, 1, h ** 2)
        nu_temp = oriented * _signs(draws[:, _POSITIONS:])[:, :, None].to(best) + self._unit(nu.gather(2, w1))
        outside = nu.scatter(2, w1, 0.0).scatter(2, w2, 0.0)
        # A channel's mass in both windows, and what clipping to the box has left unused, is available for W1.
        freed = self._mass(nu - outside, 2)
        unused = (ball.epsilon**self.p - self._mass(nu, (1, 2))).clamp(min=0.0) / channels
        epsilon_avail = (freed + unused[:, None]) ** (1 / self.p)
        nu = outside.scatter(2, w1, self._unit(nu_temp) * epsilon_avail[:, :, None]).view_as(best)
        return ball.moved(scaled_to(nu, ball.epsilon, self.norm))

    def _mass(self, values: Tensor, axes: int | tuple[int, ...]) -> Tensor:
        """Return the p-th power of the norm, which adds up over windows."""
        return values.abs().pow(self.p).sum(axes)

    def _unit(self, values: Tensor) -> Tensor:
        """Scale vectors along the last axis to norm one; zero vectors stay zero."""
        length: Tensor = torch.linalg.vector_norm(values, ord=self.p, dim=-1, keepdim=True)
        return values / torch.where(length > 0, length, 1.0)

    def _eta(self, h: int, like: Tensor) -> Tensor:
        """Return the bump eta `(h, h)` of equation 2, of norm one: a half above its negative."""
        upper = h // 2
        eta = torch.cat([self._half(upper, h), -self._half(h - upper, h)])
        return self._unit(eta.flatten()).view(h, h).to(like)

    def _half(self, height: int, width: int) -> Tensor:
        """Sum nested rectangles around the center, the k-th from inside with weight 1 / k ** 2; scale to norm one."""
        half = torch.zeros(height, width, dtype=torch.float64)
        for ring in range(max(height, width) // 2 + 1):
            top, left = height // 2 - ring, width // 2 - ring
            rows = slice(max(top, 0), max(top + 2 * ring + 1, 0))
            half[rows, max(left, 0) : max(left + 2 * ring + 1, 0)] += 1 / (ring + 1) ** 2
        return self._unit(half.flatten()).view(height, width)


def _corner(draws: Tensor, extent: int, h: int) -> Tensor:
    return (draws * (extent - h + 1)).to(torch.int64)


def _interval(draws: Tensor, extent: int, h: int) -> Tensor:
    """Mark the pixels of a random interval of length h: bool `(A, extent)`."""
    start, pixels = _corner(draws, extent, h)[:, None], torch.arange(extent, device=draws.device)
    return (pixels >= start) & (pixels < start + h)


def _window(top: Tensor, left: Tensor, width: int, h: int) -> Tensor:
    """Return the indices of a window in the flattened image: int64 `(A, h ** 2)`."""
    steps = torch.arange(h, device=top.device)
    return ((top[:, None] + steps)[:, :, None] * width + (left[:, None] + steps)[:, None, :]).flatten(1)


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, 1.0, -1.0)
