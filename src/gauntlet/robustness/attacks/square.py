"""Square: random search over square windows, from scores alone."""

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
_PUBLISHED_QUERIES = 10_000
_BLOCK = 32
"""Steps whose random numbers are drawn at once."""
_PLACES = 5
"""Random numbers of a step beside the signs: corners of two windows, and which way a bump lies."""


@ATTACKS.register(
    "square",
    kind="bounded",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
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
    """Change one random window a step, and keep the change where it lowers the margin z_y - max_{i != y} z_i.

    A window covers the share p of the image; p begins at `p_init` and is halved nine times, after steps 10 to 8000 of
    10 000; `rescale_schedule` shrinks these to the number of `queries`. A sample stops when it is confirmed fooled;
    what still holds starts anew, `restarts` times. Cost per sample: `queries` forwards a restart, no backward. x is
    `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    found = x.clone()
    left = torch.arange(len(x), device=x.device)
    outer = model.current_rows
    shares = [_share(query, queries if rescale_schedule else _PUBLISHED_QUERIES, p_init) for query in range(queries)]
    for restart in range(restarts):
        ball = Ball(x[left], epsilon, norm)
        with model.rows(outer[left]):
            found[left], held = _search(model, ball, y[left], keys[left], shares=shares, stream=f"square:{restart}")
        left = left[held]
        if not len(left):
            break
    return found


def _search(
    model: AttackModel, ball: Ball, y: Tensor, keys: Tensor, *, shares: list[float], stream: str
) -> tuple[Tensor, Tensor]:
    """Search once. Returns the points `(B, ...)` and the rows, int64 `(A,)`, that still hold."""
    found = ball.origin.clone()
    rows = torch.arange(len(y), device=y.device)
    outer = model.current_rows
    channels = found.shape[1]
    moves: _Moves = _Squares() if ball.norm == "linf" else _Bumps(ball.norm)
    best = candidate = moves.start(ball, keys, stream=stream)
    smallest = torch.full((len(y),), torch.inf, dtype=found.dtype, device=y.device)
    for query, share in enumerate(shares):
        if query % _BLOCK == 0:
            block = f"{stream}:{query // _BLOCK}"
            draws = uniform(keys, (_BLOCK, _PLACES + channels), stream=block, dtype=torch.float64)
        if query:
            candidate = moves.propose(ball, best, draws[:, query % _BLOCK], share)
        with model.rows(outer[rows]):
            logits = model.logits(candidate)
            fooled = model.fooled(logits, candidate, y)
        margin = logit_margin(logits, y)
        lower = margin < smallest
        best = torch.where(lower[:, None, None, None], candidate, best)
        smallest = torch.where(lower, margin, smallest)
        if fooled is not None:
            found[rows[fooled]] = candidate[fooled]
            kept = (~fooled).nonzero()[:, 0]
            rows, y, keys, draws, ball = rows[kept], y[kept], keys[kept], draws[kept], ball.select(kept)
            best, smallest = best[kept], smallest[kept]
            if not len(rows):
                return found, rows
    found[rows] = best
    return found, rows


def _share(query: int, queries: int, p_init: float) -> float:
    """Give the share of the image that the window of this query covers."""
    place = query * _PUBLISHED_QUERIES / queries
    return p_init * 0.5 ** sum(place > halving for halving in _HALVINGS)


class _Moves(Protocol):
    """Where the search starts in a ball, and what it tries next."""

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor: ...

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor: ...


class _Squares:
    """L-infinity: vertical stripes, then windows of one colour, always at the ball's corners."""

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor:
        _, channels, _, width = ball.origin.shape
        up = uniform(keys, (channels, 1, width), stream=f"{stream}:start") < 0.5
        return torch.where(up, ball.high, ball.low)

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor:
        height, width = best.shape[2:]
        side = max(1, min(round(math.sqrt(share * height * width)), min(height, width) - 1))
        rows, columns = _within(draws[:, 0], height, side), _within(draws[:, 1], width, side)
        inside = rows[:, None, :, None] & columns[:, None, None, :]
        up = draws[:, _PLACES:, None, None] < 0.5
        corner = torch.where(up, ball.high, ball.low)
        # A window that has this colour already would waste the query: it gets the opposite one.
        idle = ((corner == best) | ~inside).flatten(1).all(1)
        corner = torch.where(idle[:, None, None, None], torch.where(up, ball.low, ball.high), corner)
        return torch.where(inside, corner, best)


class _Bumps:
    """L2, L1: a grid of bumps, then the mass of one window moved into another, always on the sphere before clipping."""

    def __init__(self, norm: str) -> None:
        self.norm, self.power = norm, {"l1": 1, "l2": 2}[norm]

    def start(self, ball: Ball, keys: Tensor, *, stream: str) -> Tensor:
        _, channels, height, width = ball.origin.shape
        side = max(1, min(height, width) // 5)
        down, across = height // side, width // side
        signs = _signs(uniform(keys, (channels, down, across), stream=f"{stream}:start", dtype=torch.float64))
        tiles = signs.repeat_interleave(side, 2).repeat_interleave(side, 3) * self._bump(side, ball.origin).repeat(
            down, across
        )
        change = torch.zeros_like(ball.origin)
        top, left = (height - side * down) // 2, (width - side * across) // 2
        change[:, :, top : top + side * down, left : left + side * across] = tiles
        return (ball.origin + scaled_to(change, ball.epsilon, self.norm)).clamp_(0.0, 1.0)

    def propose(self, ball: Ball, best: Tensor, draws: Tensor, share: float) -> Tensor:
        _, channels, height, width = best.shape
        side = max(3, round(math.sqrt(share * height * width)))
        side = min(side + (side + 1) % 2, height, width)
        change = (best - ball.origin).flatten(2)  # (A, C, H * W)
        first, second = (
            _places(_corner(draws[:, 2 * i], height, side), _corner(draws[:, 2 * i + 1], width, side), width, side)
            .unsqueeze(1)
            .expand(-1, channels, -1)
            for i in range(2)
        )
        bump = self._bump(side, best)
        lying = torch.where((draws[:, 4] < 0.5)[:, None, None], bump, bump.T).flatten(1)[:, None]  # (A, 1, side ** 2)
        fresh = lying * _signs(draws[:, _PLACES:])[:, :, None].to(best) + self._unit(change.gather(2, first))
        rest = change.scatter(2, first, 0.0).scatter(2, second, 0.0)
        # What the two windows held in a channel, and what clipping has left of the ball, goes into the first window.
        freed = self._mass(change - rest, 2)
        unused = (ball.epsilon**self.power - self._mass(change, (1, 2))).clamp(min=0.0) / channels
        length = (freed + unused[:, None]) ** (1 / self.power)
        changed = rest.scatter(2, first, self._unit(fresh) * length[:, :, None]).view_as(best)
        return (ball.origin + scaled_to(changed, ball.epsilon, self.norm)).clamp_(0.0, 1.0)

    def _mass(self, values: Tensor, axes: int | tuple[int, ...]) -> Tensor:
        """Measure what adds up over windows: the norm to its power."""
        return values.abs().pow(self.power).sum(axes)

    def _unit(self, values: Tensor) -> Tensor:
        """Scale along the last axis to length one; what is zero stays so."""
        length: Tensor = torch.linalg.vector_norm(values, ord=self.power, dim=-1, keepdim=True)
        return values / torch.where(length > 0, length, 1.0)

    def _bump(self, side: int, like: Tensor) -> Tensor:
        """Build a window `(side, side)` of length one: a bump above its negative (equation 2 of the paper)."""
        upper = side // 2
        bump = torch.cat([self._half(upper, side), -self._half(side - upper, side)])
        return self._unit(bump.flatten()).view(side, side).to(like)

    def _half(self, height: int, width: int) -> Tensor:
        """Add nested rectangles around the middle, the k-th from inside weighing 1 / k ** 2; scale to length one."""
        half = torch.zeros(height, width, dtype=torch.float64)
        for ring in range(max(height, width) // 2 + 1):
            top, left = height // 2 - ring, width // 2 - ring
            rows = slice(max(top, 0), max(top + 2 * ring + 1, 0))
            half[rows, max(left, 0) : max(left + 2 * ring + 1, 0)] += 1 / (ring + 1) ** 2
        return self._unit(half.flatten()).view(height, width)


def _corner(draws: Tensor, extent: int, side: int) -> Tensor:
    return (draws * (extent - side + 1)).to(torch.int64)


def _within(draws: Tensor, extent: int, side: int) -> Tensor:
    """Mark the places of a random interval of length `side`: bool `(A, extent)`."""
    start, place = _corner(draws, extent, side)[:, None], torch.arange(extent, device=draws.device)
    return (place >= start) & (place < start + side)


def _places(top: Tensor, left: Tensor, width: int, side: int) -> Tensor:
    """List a window's places in the flattened image: int64 `(A, side ** 2)`."""
    steps = torch.arange(side, device=top.device)
    return ((top[:, None] + steps)[:, :, None] * width + (left[:, None] + steps)[:, None, :]).flatten(1)


def _signs(draws: Tensor) -> Tensor:
    return torch.where(draws < 0.5, 1.0, -1.0)
