"""Margin certificate of networks whose Lipschitz constant is known by construction."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.registry import CERTIFICATES
from gauntlet.robustness.certificates.certified_predictions import round_down
from gauntlet.robustness.judge import logit_margin
from gauntlet.robustness.networks import copy_network

# The certified network runs in float32; this share of the largest logit covers its rounding in both logits of a margin.
_ROUNDING = 2.0**-20


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
    / (2 L) where each logit is (disjoint heads). Logits are computed in float64, the margin is reduced by the rounding
    error of the float32 network, and the radius is rounded down to float32.

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
    margin = logit_margin(logits, y) - _ROUNDING * logits.abs().amax(1)
    radius = torch.where(margin > 0, margin / (divisor * claim.constant), 0.0)
    return torch.from_numpy(round_down(radius.cpu().numpy())).to(x.device)
