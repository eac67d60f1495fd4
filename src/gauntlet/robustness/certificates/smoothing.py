"""Randomised smoothing: the class that a network gives most often under Gaussian noise, certified by counting."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import normal, subkeys
from gauntlet.registry import CERTIFICATES, OpenFraction, PositiveFloat, PositiveInt
from gauntlet.robustness.certificates.verdicts import Verdicts, round_down


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
) -> Verdicts:
    """Certify the smoothed classifier g(x) = argmax_c P(network(x + sigma * N(0, I)) = c), not the network itself.

    What holds: where `prediction` is a class c, g(x + d) = c for every d with ||d||_2 < radius (pixel units), whatever
    the network. It fails with probability at most `alpha` per image, over the noise that was drawn; nothing is claimed
    of all images at once. Where the count does not decide: prediction -1 (abstention), radius 0.

    `n0` noisy copies choose the class, `n` others bound its probability from below by p, one-sided Clopper-Pearson at
    level 1 - alpha; radius = sigma * Phi^-1(p) where p > 1/2, in float64, rounded down to float32. `confidence` is p,
    abstentions included. At best p = alpha^(1/n): small `n` caps the radius (the paper uses 100000). Of classes chosen
    equally often the first is taken; a copy with outputs that are not finite counts for no class.

    The theorem is about exact Gaussian noise and arithmetic: noisy copies are not clipped to [0, 1], which would be
    another distribution, but noise and network are float32, so that inputs made against rounding are not covered.

    x is `(B, C, H, W)` in [0, 1], keys int64 `(B,)`; `batch_size` noisy copies go through the network at once.
    Raises InputError when `n` is so small that even equal answers would not suffice.
    """
    least = math.floor(-math.log2(alpha)) + 1
    if n < least:
        raise InputError(
            f"{n} noisy copies can certify nothing at alpha {alpha:g}: every image would be an abstention",
            where="smoothing",
            remedy=f"set n to {least} or more; the paper uses 100000",
        )
    draws = torch.cat([subkeys(keys, n0, stream="selection"), subkeys(keys, n, stream="estimation")], 1)
    classes, count = _noisy_classes(network, x, draws, sigma=sigma, batch_size=batch_size)
    selection = np.stack([np.bincount(row[row >= 0], minlength=count) for row in classes[:, :n0]])
    estimation = np.stack([np.bincount(row[row >= 0], minlength=count) for row in classes[:, n0:]])
    return verdicts(selection, estimation, n=n, sigma=sigma, alpha=alpha)


def verdicts(selection: np.ndarray, estimation: np.ndarray, *, n: int, sigma: float, alpha: float) -> Verdicts:
    """Turn counts per class, int64 `(B, K)` each, into predictions and radii; `n` copies were drawn for `estimation`.

    Source: Cohen, Rosenfeld, Kolter 2019, algorithm CERTIFY; Clopper and Pearson 1934, Biometrika 26, 404-413.
    """
    top = selection.argmax(1)
    hits = np.take_along_axis(estimation, top[:, None], 1)[:, 0]
    # The quantile of Beta(0, .) does not exist; no hit bounds the probability by 0.
    lower = np.where(hits == 0, 0.0, special.betaincinv(np.maximum(hits, 1), n - hits + 1, alpha))
    decided = lower > 0.5
    radius = np.where(decided, sigma * special.ndtri(np.where(decided, lower, 0.5)), 0.0)
    return Verdicts(np.where(decided, top, -1), round_down(lower), round_down(radius))


def _noisy_classes(
    network: nn.Module, x: Tensor, draws: Tensor, *, sigma: float, batch_size: int
) -> tuple[np.ndarray, int]:
    """Give the network's class of each noisy copy, int64 `(B, draws)`, -1 where it has none, and their number."""
    keys = draws.flatten()
    image = torch.arange(len(x), device=x.device).repeat_interleave(draws.shape[1])
    found, count = [], 0
    for start in range(0, len(keys), batch_size):
        part = slice(start, start + batch_size)
        noise = normal(keys[part], x.shape[1:], stream="noise")
        with torch.no_grad():
            logits = network(x[image[part]] + sigma * noise)
        found.append(torch.where(logits.isfinite().all(1), logits.argmax(1), -1))
        count = logits.shape[1]
    return torch.cat(found).reshape(draws.shape).cpu().numpy(), count
