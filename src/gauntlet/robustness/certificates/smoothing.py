"""Randomized smoothing: the class that a network predicts most often under Gaussian noise, certified by counting."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import normal, subkeys
from gauntlet.registry import CERTIFICATES, OpenFraction, PositiveFloat, PositiveInt
from gauntlet.robustness.certificates.certified_predictions import CertifiedPredictions, round_down


@CERTIFICATES.register(
    "smoothing",
    norms=("l2",),
    certifies="smoothed",
    counts=("n", "alpha"),
    source="Cohen, Rosenfeld, Kolter 2019, arXiv:1902.02918, algorithm CERTIFY and theorem 1",
)
def smoothing(
    network: nn.Module,
    x: Tensor,
    *,
    keys: Tensor,
    batch_size: int,
    sigma: PositiveFloat = 0.25,
    n0: PositiveInt = 100,
    n: PositiveInt = 1000,
    alpha: OpenFraction = 0.001,
) -> CertifiedPredictions:
    """Certify the smoothed classifier g(x) = argmax_c P(network(x + sigma * N(0, I)) = c), not the network itself.

    Guarantee: where `prediction` is a class c, g(x + d) = c for every d with ||d||_2 < radius (pixel units), whatever
    the network. It fails with probability at most `alpha` per image, over the noise that was drawn; there is no joint
    guarantee for all images. If the counts do not decide: prediction -1 (abstention), radius 0.

    `n0` noisy copies select the class, `n` others bound its probability from below by p, one-sided Clopper-Pearson at
    level 1 - alpha; radius = sigma * Phi^-1(p) where p > 1/2, in float64, rounded down to float32. `confidence` is p,
    also for abstentions. At best p = alpha^(1/n): small `n` caps the radius (the paper uses 100000). Ties between
    classes go to the first; a copy with outputs that are not finite counts for no class.

    The theorem assumes exact Gaussian noise and arithmetic. Noisy copies are not clipped to [0, 1], which would be
    another distribution; noise and network are float32, so inputs constructed to exploit rounding are not covered.

    x is `(B, C, H, W)` in [0, 1], keys int64 `(B,)`; `batch_size` noisy copies go through the network at once.
    Raises InputError when `n` is so small that even `n` equal predictions certify nothing.
    """
    least = math.floor(-math.log2(alpha)) + 1
    if n < least:
        raise InputError(
            f"{n} noisy copies certify nothing at alpha {alpha:g}: the classifier would abstain on every image",
            where="smoothing",
            remedy=f"set n to {least} or more; the paper uses 100000",
        )
    draws = torch.cat([subkeys(keys, n0, stream="selection"), subkeys(keys, n, stream="estimation")], 1)
    classes, count = _noisy_classes(network, x, draws, sigma=sigma, batch_size=batch_size)
    selection = np.stack([np.bincount(row[row >= 0], minlength=count) for row in classes[:, :n0]])
    estimation = np.stack([np.bincount(row[row >= 0], minlength=count) for row in classes[:, n0:]])
    return predictions_from_counts(selection, estimation, n=n, sigma=sigma, alpha=alpha)


def predictions_from_counts(
    selection: np.ndarray, estimation: np.ndarray, *, n: int, sigma: float, alpha: float
) -> CertifiedPredictions:
    """Compute predictions and radii from counts per class, int64 `(B, K)` each; `estimation` counts `n` copies.

    Source: Cohen, Rosenfeld, Kolter 2019, algorithm CERTIFY; Clopper and Pearson 1934, Biometrika 26, 404-413.
    """
    top = selection.argmax(1)
    hits = np.take_along_axis(estimation, top[:, None], 1)[:, 0]
    # Beta(0, .) has no quantile; without a hit the lower bound is 0.
    lower = np.where(hits == 0, 0.0, special.betaincinv(np.maximum(hits, 1), n - hits + 1, alpha))
    decided = lower > 0.5
    radius = np.where(decided, sigma * special.ndtri(np.where(decided, lower, 0.5)), 0.0)
    return CertifiedPredictions(np.where(decided, top, -1), round_down(lower), round_down(radius))


def _noisy_classes(
    network: nn.Module, x: Tensor, draws: Tensor, *, sigma: float, batch_size: int
) -> tuple[np.ndarray, int]:
    """Return the class of each noisy copy, int64 `(B, draws)`, -1 if its outputs are not finite, and the number K."""
    keys = draws.flatten()
    image = torch.arange(len(x), device=x.device).repeat_interleave(draws.shape[1])
    classes, count = [], 0
    for start in range(0, len(keys), batch_size):
        part = slice(start, start + batch_size)
        noise = normal(keys[part], x.shape[1:], stream="noise")
        with torch.no_grad():
            logits = network(noise.mul_(sigma).add_(x[image[part]]))
        classes.append(torch.where(logits.isfinite().all(1), logits.argmax(1), -1))
        count = logits.shape[1]
    return torch.cat(classes).reshape(draws.shape).cpu().numpy(), count
