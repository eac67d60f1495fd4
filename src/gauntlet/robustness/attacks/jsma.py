"""Jacobian-based saliency maps: change the pair of pixels that helps a target class most, again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.geometry import distances
from gauntlet.registry import ATTACKS, Fraction, NonZeroFloat
from gauntlet.robustness.attacks.base.model import AttackModel, misclassified
from gauntlet.robustness.attacks.base.objectives import Objective, likeliest_rivals

_PAIRS_AT_ONCE = 1 << 24


def _logit(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return outputs.gather(1, targets[:, None])[:, 0]


def _other_logits(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return outputs.sum(1) - _logit(outputs, labels, targets)


def _chosen(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros_like(outputs).scatter_(1, targets[:, None], 1.0)


def _not_chosen(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return 1.0 - _chosen(outputs, labels, targets)


# Saliency compares the two, so these derivatives are exact, not up to a factor.
_TARGET = Objective(_logit, _chosen)
_OTHERS = Objective(_other_logits, _not_chosen)


@ATTACKS.register(
    "jsma",
    kind="minimum_norm",
    norms=("l0",),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Papernot et al. 2016, arXiv:1511.07528",
)
def jsma(model: AttackModel, x: Tensor, y: Tensor, *, theta: NonZeroFloat = 1.0, gamma: Fraction = 0.145) -> Tensor:
    """Add `theta` to the two values that raise a target's logit and lower the others' most, until the class changes.

    With a = dz_t/dx and b = sum_{j != t} dz_j/dx, the pair maximises -(a_p + a_q)(b_p + b_q) among those with
    a_p + a_q > 0 > b_p + b_q (for negative `theta` both signs turn). A value changes once; one that is at the edge of
    the box already is no candidate. A target is given up after floor(gamma D / 2) pairs, or when no pair qualifies.
    Every other class is a target in turn, likeliest first; the result is the one with the fewest changed values, the
    image itself where none succeeds. Cost per sample and pair: 3 forwards, 2 backwards. x is `(B, C, H, W)` in
    [0, 1], y int64 `(B,)`; the result has the shape of x.

    Raises InputError for `theta` of zero.
    """
    if theta == 0:
        raise InputError("theta is 0, which changes nothing", where="theta", remedy="1 adds ink, -1 takes it away")
    best = x.clone()
    fewest = torch.full((len(x),), int(gamma * x[0].numel() / 2) * 2 + 1, dtype=torch.int64, device=x.device)
    logits = model.logits(x)
    outer = model.current_rows
    for targets in likeliest_rivals(logits, y, logits.shape[1] - 1).T:
        # To win, a target needs fewer values than the best so far: the rest of its budget need not be tried.
        rows = (fewest > 2).nonzero()[:, 0]
        with model.rows(outer[rows]):
            found, done = _towards(model, x[rows], y[rows], targets[rows], theta=theta, pairs=(fewest[rows] - 1) // 2)
        size = distances(found - x[rows])["l0"].to(torch.int64)
        better = done & (size < fewest[rows])
        best[rows[better]], fewest[rows[better]] = found[better], size[better]
    return best


def _towards(
    model: AttackModel, x: Tensor, y: Tensor, targets: Tensor, *, theta: float, pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """Change up to `pairs` int64 `(B,)` pairs of each image. Returns the images and which of them are misclassified."""
    found = x.clone()
    done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    free = (x < 1 if theta > 0 else x > 0).flatten(1)
    outer = model.current_rows
    rows = (pairs > 0).nonzero()[:, 0]
    step = 0
    while len(rows):
        with model.rows(outer[rows]):
            rise = model.gradients(found[rows], y[rows], _TARGET, targets=targets[rows]).gradient.flatten(1)
            fall = -model.gradients(found[rows], y[rows], _OTHERS, targets=targets[rows]).gradient.flatten(1)
        way = 1.0 if theta > 0 else -1.0
        first, second, qualified = best_pair(way * rise, way * fall, free[rows])
        chosen, rows = torch.stack([first, second], 1)[qualified], rows[qualified]
        free[rows[:, None], chosen] = False
        flat = found[rows].flatten(1)
        flat.scatter_(1, chosen, (flat.gather(1, chosen) + theta).clamp_(0.0, 1.0))
        found[rows] = flat.view_as(found[rows])
        with model.rows(outer[rows]):
            fooled = misclassified(model, model.logits(found[rows]), found[rows], y[rows])
        done[rows[fooled]] = True
        step += 1
        rows = rows[~fooled & (pairs[rows] > step)]
    return found, done


def best_pair(rise: Tensor, fall: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the pair p != q of free features with the largest (rise_p + rise_q)(fall_p + fall_q), both sums positive.

    All are `(B, D)`, `free` bool. Returns p and q, int64 `(B,)`, and whether there is such a pair, bool `(B,)`.

    A feature that two others surpass in both numbers can be replaced by one of them, so only the first two layers of
    the Pareto front are paired: some dozens of features instead of D.
    """
    order = torch.where(free, rise, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ordered = free.gather(1, order)
    height = torch.where(ordered, fall.gather(1, order), -torch.inf)
    front = _records(height)
    front |= _records(height.masked_fill(front, -torch.inf))
    width = max(int(front.sum(1).max()), 2) if len(front) else 2
    places = front.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    kept = order.gather(1, places)
    usable = front.gather(1, places)
    up = torch.where(usable, rise.gather(1, kept), -torch.inf)
    down = torch.where(usable, fall.gather(1, kept), -torch.inf)
    size = torch.zeros(len(rise), dtype=rise.dtype, device=rise.device)
    pair = torch.zeros(len(rise), 2, dtype=torch.int64, device=rise.device)
    together = max(1, _PAIRS_AT_ONCE // max(1, len(rise) * width))
    for start in range(0, width, together):
        one = slice(start, start + together)
        lift, drop = up[:, one, None] + up[:, None], down[:, one, None] + down[:, None]
        value = torch.where((lift > 0) & (drop > 0), lift * drop, 0.0)
        value.diagonal(offset=start, dim1=1, dim2=2).zero_()
        largest, at = value.flatten(1).max(1)
        better = largest > size
        size = torch.where(better, largest, size)
        both = torch.stack([kept.gather(1, (start + at // width)[:, None]), kept.gather(1, (at % width)[:, None])], 2)
        pair = torch.where(better[:, None], both[:, 0], pair)
    return pair[:, 0], pair[:, 1], size > 0


def _records(values: Tensor) -> Tensor:
    """Mark what is larger than all before it along each row `(B, D)`."""
    before = torch.cat([torch.full_like(values[:, :1], -torch.inf), values.cummax(1).values[:, :-1]], 1)
    return values > before
