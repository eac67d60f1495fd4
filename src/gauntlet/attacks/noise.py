"""Additive noise: the attack that knows nothing, and the floor under every other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gauntlet.attacks.geometry import scaled_to
from gauntlet.attacks.model import AttackModel
from gauntlet.randomness import normal, uniform
from gauntlet.registry import ATTACKS, PositiveInt
from gauntlet.subject import logit_margin


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

    def draw(rows: Tensor, number: int, shape: Sequence[int]) -> Tensor:
        return normal(keys[rows], shape, stream=f"noise:{number}", dtype=x.dtype)

    return _worst_of(model, x, y, norm=norm, epsilon=epsilon, draws=draws, draw=draw)


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

    def draw(rows: Tensor, number: int, shape: Sequence[int]) -> Tensor:
        return uniform(keys[rows], shape, stream=f"noise:{number}", low=-1.0, dtype=x.dtype)

    return _worst_of(model, x, y, norm=norm, epsilon=epsilon, draws=draws, draw=draw)


def _worst_of(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    draws: int,
    draw: Callable[[Tensor, int, Sequence[int]], Tensor],
) -> Tensor:
    """Draw until a sample is fooled; where none is, keep the draw with the smallest margin."""
    worst = x.clone()
    smallest = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    rows = torch.arange(len(x), device=x.device)
    for number in range(draws):
        noisy = (x[rows] + scaled_to(draw(rows, number, x.shape[1:]), epsilon, norm)).clamp_(0.0, 1.0)
        with model.rows(rows):
            logits = model.logits(noisy)
            fooled = model.fooled(logits, noisy, y[rows])
        margins = logit_margin(logits, y[rows])
        if fooled is not None:
            # An unconfirmed candidate has a margin of rounding size; a confirmed one must win against it.
            margins = torch.where(fooled, -torch.inf, margins)
        worse = (margins < smallest[rows]).nonzero()[:, 0]
        worst[rows[worse]], smallest[rows[worse]] = noisy[worse], margins[worse]
        if fooled is not None:
            rows = rows[~fooled]
            if not len(rows):
                break
    return worst
