"""Logits of a stored network for fixed images, by which another process knows the network again.

A state dict cannot hold what a network takes from its process: a permutation drawn at module level, a class attribute
set by the first construction, a cache, the order of a set. In the process that trained it, every copy shares that
state; only another process shows the difference.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.errors import InputError
from gauntlet.core.randomness import derive_seed, uniform
from gauntlet.core.seeding import seeded
from gauntlet.learning.models.network import Network

Rows = tuple[tuple[float, ...], ...]
"""Logits of the reference images, a row each."""

COUNT = 4
"""Number of reference images."""
_SAME = 1e-3
"""Share of the largest logit by which rounding on another machine may change a network."""
_DIGITS = 6
"""Significant digits that are stored, so that rounding on another machine seldom changes the bytes."""
_BLOCK = 4


def reference_rows(network: Network, rebuild: Callable[[], Network]) -> Rows | None:
    """Compute the logits of a network for the reference images, on a copy on the CPU, in evaluation mode.

    Where the copy cannot compute, for example with tensors of another device in its attributes, the network from
    `rebuild` is asked, which `load_model` would return. None if a logit is not finite.
    """
    try:
        with torch.no_grad():
            logits = reference_logits(copy.deepcopy(network).to("cpu").eval())
    except Exception:  # a user's network may refuse in any way
        logits = reference_logits(rebuild())
    if not logits.isfinite().all():
        return None
    return tuple(tuple(float(f"{value:.{_DIGITS}g}") for value in row) for row in logits.tolist())


def check_reference(network: Network, rows: Rows, *, name: str, where: str) -> None:
    """Check that a network on the CPU, in evaluation mode, has these logits for the reference images.

    It is another one if the rows of most images differ. Rounding on another machine that moves an activation of a
    quantized network over a step changes the row of one image by more than the tolerance, not those of most.

    Raises InputError with `where`.
    """
    with torch.no_grad():
        # A copy: a network may keep tensors of the device of its first images.
        logits = reference_logits(copy.deepcopy(network))
    stored = torch.tensor(rows, dtype=torch.float64)
    same = max(_SAME, 8 * torch.finfo(logits.dtype).eps) * float(stored.abs().amax())
    difference = (logits.to(torch.float64) - stored).abs().nan_to_num(torch.inf).amax(1)
    if int((difference > same).sum()) > COUNT // 2:
        problem = (
            f"{name}, built now, is another network than the one that was trained: it has state outside its state "
            "dict that differs between processes (module level, class attribute, cache, order of a set)"
        )
        remedy = "register that state as a persistent buffer in the constructor, and train it again"
        raise InputError(problem, where=where, remedy=remedy)


@torch.no_grad()
def reference_logits(network: Network) -> Tensor:
    """Return the logits `(COUNT, K)` of a network on the CPU for the reference images; global states do not change.

    The global generators are seeded, so that a random network has the same draws each time. Raises what it raises.
    """
    if network.description is None:
        raise ValueError("the network has no description")
    images = reference_images(network.description.image_shape)
    with seeded(derive_seed("reference", "logits")), float32_arithmetic():
        logits: Tensor = network(images)
    return logits


def reference_images(shape: Sequence[int]) -> Tensor:
    """Draw the reference images `(COUNT, C, H, W)` in [0, 1]: noise of single pixels, and of blocks of pixels.

    With other images, every stored network would be refused: a change of them needs a new format of the manifest.
    """
    channels, height, width = shape
    half = COUNT // 2
    keys = torch.tensor([derive_seed("reference", "image", index) for index in range(half)], dtype=torch.int64)
    pixels = uniform(keys, shape, stream="pixels")
    coarse = uniform(keys, (channels, -(-height // _BLOCK), -(-width // _BLOCK)), stream="blocks")
    blocks = coarse.repeat_interleave(_BLOCK, 2).repeat_interleave(_BLOCK, 3)[:, :, :height, :width]
    return torch.cat([pixels, blocks])
