"""Noise: the attack that knows nothing, and the floor under every other one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball, scaled_to
from gauntlet.core.randomness import normal, uniform
from gauntlet.registry import ATTACKS, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import logit_margin


@ATTACKS.register(
    "gaussian_noise",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def gaussian_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Add Gaussian noise scaled to size `epsilon`, clipped to [0, 1]; of `draws` images keep the worst for the model.

    x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """

    def noisy(rows: Tensor, stream: str) -> Tensor:
        noise = normal(keys[rows], x.shape[1:], stream=stream, dtype=x.dtype)
        return (x[rows] + scaled_to(noise, epsilon, norm)).clamp_(0.0, 1.0)

    return _worst_of(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "uniform_noise",
    kind="bounded",
    norms=("linf", "l2"),
    goal="untargeted",
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def uniform_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Add uniform noise scaled to size `epsilon`, clipped to [0, 1]; of `draws` images keep the worst for the model.

    x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """

    def noisy(rows: Tensor, stream: str) -> Tensor:
        noise = uniform(keys[rows], x.shape[1:], stream=stream, low=-1.0, dtype=x.dtype)
        return (x[rows] + scaled_to(noise, epsilon, norm)).clamp_(0.0, 1.0)

    return _worst_of(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "salt_and_pepper_noise",
    kind="bounded",
    norms=("l0",),
    goal="untargeted",
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def salt_and_pepper_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Set `epsilon` values, at places drawn at random, to 0 or 1; of `draws` images keep the worst for the model.

    The L0 norm counts values, so that a pixel of three channels is three; a fraction of one changes nothing. x is
    `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    count = min(int(epsilon), x[0].numel())

    def noisy(rows: Tensor, stream: str) -> Tensor:
        clean = x[rows].flatten(1)
        places = uniform(keys[rows], clean.shape[1:], stream=f"{stream}:places").topk(count, dim=1).indices
        white = uniform(keys[rows], (count,), stream=f"{stream}:colours") < 0.5
        return clean.scatter(1, places, white.to(x.dtype)).view_as(x[rows])

    return _worst_of(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "rubbish",
    kind="bounded",
    norms=("linf",),
    goal="untargeted",
    access="none",
    batching="attack",
    search="random",
    source="Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572, section on rubbish class examples",
)
def rubbish(model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor) -> Tensor:
    """Draw one image per sample, uniform in ball and box: with epsilon 1 pure noise, whatever the sample.

    Nothing is searched, so that the rows' `adversarial_confidence` is the model's confidence on noise. x is
    `(B, C, H, W)` in [0, 1], keys int64 `(B,)`; the result has the shape of x.
    """
    return Ball(x, epsilon, norm).random_point(keys, stream="rubbish")


def _worst_of(
    model: AttackModel, x: Tensor, y: Tensor, noisy: Callable[[Tensor, str], Tensor], *, draws: int
) -> Tensor:
    """Draw until a sample is fooled; where none is, keep the draw with the smallest margin.

    `noisy` gives the noisy images `(A, ...)` of the rows `(A,)` from a stream.
    """
    worst = x.clone()
    smallest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    rows, outer = torch.arange(len(x), device=x.device), model.current_rows
    for number in range(draws):
        images = noisy(rows, f"noise:{number}")
        with model.rows(outer[rows]):
            logits = model.logits(images)
            fooled = model.fooled(logits, images, y[rows])
        margins = logit_margin(logits, y[rows])
        if fooled is not None:
            # An unconfirmed candidate has a margin of rounding size; a confirmed one must win against it.
            margins = torch.where(fooled, -torch.inf, margins)
        worse = (margins < smallest[rows]).nonzero()[:, 0]
        worst[rows[worse]], smallest[rows[worse]] = images[worse], margins[worse]
        if fooled is not None:
            rows = rows[~fooled]
            if not len(rows):
                break
    return worst
