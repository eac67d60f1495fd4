"""JSMA, the Jacobian-based saliency map attack: change the most salient pair of features, one pair after the other.

Papernot et al. 2016, arXiv:1511.07528, in its symbols alpha, beta and theta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.geometry import distances
from gauntlet.registry import ATTACKS, Fraction, NonZeroFloat
from gauntlet.robustness.attacks.base.losses import AttackLoss, likeliest_targets
from gauntlet.robustness.attacks.base.model import AttackModel

_MAX_PAIRS = 1 << 24
"""Pairs of features compared at once, over all samples."""


def _target_logit(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return outputs.gather(1, targets[:, None])[:, 0]


def _other_logits(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return outputs.sum(1) - _target_logit(outputs, labels, targets)


def _target_mask(outputs: Tensor, _labels: Tensor, targets: Tensor) -> Tensor:
    return torch.zeros_like(outputs).scatter_(1, targets[:, None], 1.0)


def _other_mask(outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    return 1.0 - _target_mask(outputs, labels, targets)


# The saliency map compares the sizes of both gradients, so these derivatives are exact, not only up to a factor.
_TARGET = AttackLoss(_target_logit, _target_mask)
_OTHERS = AttackLoss(_other_logits, _other_mask)


@ATTACKS.register(
    "jsma",
    kind="minimum_norm",
    norms=("l0",),
    access="gradient",
    batching="attack",
    per_class={},
    source="Papernot et al. 2016, arXiv:1511.07528",
)
def jsma(model: AttackModel, x: Tensor, y: Tensor, *, theta: NonZeroFloat = 1.0, gamma: Fraction = 0.145) -> Tensor:
    """Add `theta` to the pair of values with the highest saliency for a target class, until the class changes.

    With alpha = dz_t/dx and beta = sum_{j != t} dz_j/dx, the pair p, q maximizes -(alpha_p + alpha_q)(beta_p + beta_q)
    among those with alpha_p + alpha_q > 0 > beta_p + beta_q (both signs flip for negative `theta`). Each value changes
    at most once; a value at the edge of the box is no candidate. A target is given up after floor(gamma D / 2) pairs,
    or when no pair qualifies. Every other class is tried as target, likeliest first; the result is the one with the
    fewest changed values, or the image itself where none succeeds. Cost per sample and pair: 3 forwards, 2 backwards. x
    is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has the shape of x.

    Raises InputError for `theta` of zero.
    """
    if theta == 0:
        raise InputError("theta is 0, which changes nothing", where="theta", remedy="use 1 to brighten, -1 to darken")
    x_adv = x.clone()
    min_l0 = torch.full((len(x),), int(gamma * x[0].numel() / 2) * 2 + 1, dtype=torch.int64, device=x.device)
    logits = model.logits(x)
    for targets in likeliest_targets(logits, y, logits.shape[1] - 1).T:
        # Only results with fewer changed values than the best so far are of use, which bounds the number of pairs.
        rows = (min_l0 > 2).nonzero()[:, 0]
        with model.subset(rows):
            points, success = _towards(
                model, x[rows], y[rows], targets[rows], theta=theta, max_pairs=(min_l0[rows] - 1) // 2
            )
        l0 = distances(points - x[rows])["l0"].to(torch.int64)
        fewer = success & (l0 < min_l0[rows])
        x_adv[rows[fewer]], min_l0[rows[fewer]] = points[fewer], l0[fewer]
    return x_adv


def _towards(
    model: AttackModel, x: Tensor, y: Tensor, targets: Tensor, *, theta: float, max_pairs: Tensor
) -> tuple[Tensor, Tensor]:
    """Change up to `max_pairs` int64 `(B,)` pairs of each image; return the images and which are misclassified."""
    x_adv = x.clone()
    success = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    domain = (x < 1 if theta > 0 else x > 0).flatten(1)
    sign = 1.0 if theta > 0 else -1.0
    active = (max_pairs > 0).nonzero()[:, 0]
    pairs = 0
    while len(active):
        points, labels, classes = x_adv[active], y[active], targets[active]
        with model.subset(active):
            alpha = model.gradients(points, labels, _TARGET, targets=classes).gradient.flatten(1)
            beta = model.gradients(points, labels, _OTHERS, targets=classes).gradient.flatten(1)
        p, q, qualified = best_pair(sign * alpha, sign * -beta, domain[active])
        pair, active = torch.stack([p, q], 1)[qualified], active[qualified]
        domain[active[:, None], pair] = False
        flat = x_adv[active].flatten(1)
        flat.scatter_(1, pair, (flat.gather(1, pair) + theta).clamp_(0.0, 1.0))
        x_adv[active] = flat.view_as(x_adv[active])
        with model.subset(active):
            wrong = model.misclassified(model.logits(x_adv[active]), x_adv[active], y[active])
        success[active[wrong]] = True
        pairs += 1
        active = active[~wrong & (max_pairs[active] > pairs)]
    return x_adv, success


def best_pair(alpha: Tensor, minus_beta: Tensor, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the pair p != q in the domain with the largest product of alpha_p + alpha_q and -(beta_p + beta_q).

    All arguments are `(B, D)`, `domain` bool. Both sums must be positive. Returns p and q, int64 `(B,)`, and whether
    such a pair exists, bool `(B,)`.

    A feature that two others exceed in both numbers can be replaced by one of them, so only the first two layers of the
    Pareto front are paired: some dozens of features instead of D.
    """
    order = torch.where(domain, alpha, -torch.inf).argsort(dim=1, descending=True, stable=True)
    in_domain = domain.gather(1, order)
    height = torch.where(in_domain, minus_beta.gather(1, order), -torch.inf)
    front = _exceeds_all_before(height)
    front |= _exceeds_all_before(height.masked_fill(front, -torch.inf))
    width = max(int(front.sum(1).max()), 2) if len(front) else 2
    columns = front.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :width]
    features = order.gather(1, columns)
    on_front = front.gather(1, columns)
    front_alpha = torch.where(on_front, alpha.gather(1, features), -torch.inf)
    front_beta = torch.where(on_front, minus_beta.gather(1, features), -torch.inf)
    best = torch.zeros(len(alpha), dtype=alpha.dtype, device=alpha.device)
    pair = torch.zeros(len(alpha), 2, dtype=torch.int64, device=alpha.device)
    chunk = max(1, _MAX_PAIRS // max(1, len(alpha) * width))
    for start in range(0, width, chunk):
        part = slice(start, start + chunk)
        alpha_sum = front_alpha[:, part, None] + front_alpha[:, None]
        beta_sum = front_beta[:, part, None] + front_beta[:, None]
        saliency = torch.where((alpha_sum > 0) & (beta_sum > 0), alpha_sum * beta_sum, 0.0)
        saliency.diagonal(offset=start, dim1=1, dim2=2).zero_()
        largest, index = saliency.flatten(1).max(1)
        larger = largest > best
        best = torch.where(larger, largest, best)
        p = features.gather(1, (start + index // width)[:, None])
        q = features.gather(1, (index % width)[:, None])
        pair = torch.where(larger[:, None], torch.cat([p, q], 1), pair)
    return pair[:, 0], pair[:, 1], best > 0


def _exceeds_all_before(values: Tensor) -> Tensor:
    """Mark entries larger than all before them in their row `(B, D)`."""
    before = torch.cat([torch.full_like(values[:, :1], -torch.inf), values.cummax(1).values[:, :-1]], 1)
    return values > before
