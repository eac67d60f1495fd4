"""Margin certificate of networks whose Lipschitz constant is known by construction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import content_keys, uniform
from gauntlet.registry import CERTIFICATES
from gauntlet.robustness.certificates.certified_predictions import round_down
from gauntlet.robustness.judge import logit_margin
from gauntlet.robustness.networks import copy_network

# The certified network runs in float32: of the largest logit, the least share that its rounding is taken to be.
_ROUNDING = 2.0**-20

# Where large intermediate values cancel, rounding is far larger than this. It is measured at a few points, each of
# which may be lucky; the factor covers both logits of a margin and the other points of the ball.
_MEASURED_POINTS, _MEASURED_FACTOR, _MEASURED_DISTANCE = 4, 8.0, 2.0**-10


@CERTIFICATES.register(
    "lipschitz",
    norms=("l2",),
    needs="lipschitz",
    source="Tsuzuku, Sato, Sugiyama 2018, arXiv:1802.04034, proposition 1; Serrurier et al. 2021, arXiv:2006.06520",
)
def lipschitz(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Certify that no perturbation of smaller L2 norm than the radius changes the prediction `y`.

    Guarantee: for every d with ||d||_2 < radius, the network gives x + d the class y, with certainty (probability 1),
    provided that ``network.lipschitz`` states a true bound L on its L2 constant in pixel scale, normalization included.
    radius = (z_y - max_{i != y} z_i) / (sqrt(2) L) where the map to all logits is L-Lipschitz (joint head), and
    / (2 L) where each logit is (disjoint heads). Logits are computed in float64, and the radius is rounded down to
    float32. The margin is reduced by an allowance for the rounding of the float32 network, for which no bound is
    proven: 8 times the largest error of a logit at x and three points next to it, and at least 2^-20 of the largest
    logit.

    x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; returns float32 `(B,)`, 0 where nothing can be certified.
    Raises InputError when the network states no Lipschitz constant.
    """
    claim = getattr(network, "lipschitz", None)
    if claim is None:
        raise InputError(
            "the network states no Lipschitz constant, so no radius follows from its margins",
            remedy="certify lipschitz only variants built from constrained layers",
        )
    divisor = {"joint": math.sqrt(2.0), "disjoint": 2.0}.get(claim.head)
    if claim.norm != "l2" or divisor is None or not 0 < claim.constant < math.inf:
        raise InputError(
            f"no L2 certificate follows from {claim}", remedy="state constant > 0, norm l2, head joint | disjoint"
        )
    exact = copy_network(network).to(torch.float64)
    with torch.no_grad():
        logits = exact(x.to(torch.float64))
    least = _ROUNDING * logits.abs().amax(1)
    margin = logit_margin(logits, y) - torch.maximum(least, _MEASURED_FACTOR * _largest_error(network, exact, x))
    radius = torch.where(margin > 0, margin / (divisor * claim.constant), 0.0)
    return torch.from_numpy(round_down(radius.cpu().numpy())).to(x.device)


@torch.no_grad()
def _largest_error(network: nn.Module, exact: nn.Module, x: Tensor) -> Tensor:
    """Return the largest difference of a logit from that of the float64 copy, float64 `(B,)`, at x and points near it.

    The points are functions of their image `(C, H, W)` alone.
    """
    keys, errors = content_keys(x), []
    for number in range(_MEASURED_POINTS):
        size = _MEASURED_DISTANCE if number else 0.0
        step = uniform(keys, x.shape[1:], stream=f"rounding:{number}", low=-size, high=size)
        point = (x + step).clamp(0.0, 1.0)
        errors.append((network(point.clone()) - exact(point.to(torch.float64))).abs().amax(1))
    return torch.stack(errors).amax(0)
