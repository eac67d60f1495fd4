"""Random noise: the baseline that every other attack must exceed."""

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
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def gaussian_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Add Gaussian noise of norm `epsilon`, clipped to [0, 1]; return the draw, of `draws`, with the lowest margin.

    x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """

    def noisy(rows: Tensor, stream: str) -> Tensor:
        noise = normal(keys[rows], x.shape[1:], stream=stream, dtype=x.dtype)
        return Ball(x[rows], epsilon, norm).moved(scaled_to(noise, epsilon, norm))

    return _lowest_margin(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "uniform_noise",
    kind="bounded",
    norms=("linf", "l2"),
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def uniform_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Add uniform noise of norm `epsilon`, clipped to [0, 1]; return the draw, of `draws`, with the lowest margin.

    x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """

    def noisy(rows: Tensor, stream: str) -> Tensor:
        noise = uniform(keys[rows], x.shape[1:], stream=stream, low=-1.0, dtype=x.dtype)
        return Ball(x[rows], epsilon, norm).moved(scaled_to(noise, epsilon, norm))

    return _lowest_margin(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "salt_and_pepper_noise",
    kind="bounded",
    norms=("l0",),
    access="scores",
    batching="attack",
    search="random",
    source="Rauber et al. 2017, arXiv:1707.04131",
)
def salt_and_pepper_noise(
    model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor, draws: PositiveInt = 10
) -> Tensor:
    """Set `epsilon` random values to 0 or 1; return the draw, of `draws`, with the lowest margin.

    The L0 norm counts values: a pixel of three channels has three. `epsilon` is rounded down. x is `(B, C, H, W)` in
    [0, 1], y and keys int64 `(B,)`; the result has the shape of x.
    """
    count = min(int(epsilon), x[0].numel())

    def noisy(rows: Tensor, stream: str) -> Tensor:
        clean = x[rows].flatten(1)
        entries = uniform(keys[rows], clean.shape[1:], stream=f"{stream}:places").topk(count, dim=1).indices
        white = uniform(keys[rows], (count,), stream=f"{stream}:colours") < 0.5
        return clean.scatter(1, entries, white.to(x.dtype)).view_as(x[rows])

    return _lowest_margin(model, x, y, noisy, draws=draws)


@ATTACKS.register(
    "rubbish",
    kind="bounded",
    norms=("linf",),
    access="none",
    batching="attack",
    search="random",
    source="Goodfellow, Shlens, Szegedy 2015, arXiv:1412.6572, section on rubbish class examples",
)
def rubbish(model: AttackModel, x: Tensor, y: Tensor, *, norm: str, epsilon: float, keys: Tensor) -> Tensor:
    """Draw one image per sample, uniform in ball and box: with epsilon 1 pure noise, whatever the image.

    Nothing is searched: the rows' `adversarial_confidence` is the model's confidence on noise. x is `(B, C, H, W)` in
    [0, 1], keys int64 `(B,)`; the result has the shape of x.
    """
    return Ball(x, epsilon, norm).random_point(keys, stream="rubbish")


def _lowest_margin(
    model: AttackModel, x: Tensor, y: Tensor, noisy: Callable[[Tensor, str], Tensor], *, draws: int
) -> Tensor:
    """Draw until a sample is confirmed adversarial; where none is, return the draw with the lowest margin.

    `noisy` returns the noisy images `(A, ...)` of samples `(A,)` for a stream.
    """
    x_adv = x.clone()
    min_margin = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    robust = torch.arange(len(x), device=x.device)
    for number in range(draws):
        images = noisy(robust, f"noise:{number}")
        with model.subset(robust):
            logits = model.logits(images)
            adversarial = model.is_adversarial(logits, images, y[robust])
        margin = logit_margin(logits, y[robust])
        if adversarial is not None:
            # A confirmed success outranks images that only the copy misclassifies.
            margin = torch.where(adversarial, -torch.inf, margin)
        lower = (margin < min_margin[robust]).nonzero()[:, 0]
        x_adv[robust[lower]], min_margin[robust[lower]] = images[lower], margin[lower]
        if adversarial is not None:
            robust = robust[~adversarial]
            if not len(robust):
                break
    return x_adv
