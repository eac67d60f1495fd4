"""Check of a network's normalization: whether a network that exists classifies better with another one."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.data.stored_images import StoredSplit
from gauntlet.learning.models.layers.normalization import Normalization, Statistics
from gauntlet.learning.models.network import Network
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.networks import copy_network

_LEAST_GAIN = 0.01
"""Share of the images by which the accuracy must differ."""
_LEAST_DEVIATIONS = 4.0
"""Standard deviations of the difference, if both were equally good, by which it must exceed 0."""


def normalization_warning(
    network: Network,
    split: Split | StoredSplit,
    data: Statistics,
    *,
    device: torch.device,
    draws: int = 1,
    name: str = "validation",
) -> str | None:
    """Return a warning if another normalization makes the network, in evaluation mode, more accurate on a split.

    A network that normalizes pixels is tried with raw pixels, since it may normalize inside; one that does not is tried
    with the statistics of the `data`. The difference counts if it is above 1 % of the images and 4 standard deviations
    of a sign test. None for a network without a first layer that normalizes, as where a class of its own omits it. The
    network does not change. `name` is that of the split in the warning.
    """
    layer = network.normalization
    if not isinstance(layer, Normalization):
        return None
    normalizes = bool((layer.mean != 0).any() or (layer.std != 1).any())
    channels = layer.mean.numel()
    other = copy_network(network)
    if not isinstance(other, Network):
        return None
    mean, std = ((0.0,) * channels, (1.0,) * channels) if normalizes else data
    other.normalization = Normalization(mean, std).to(layer.mean.device)
    before, after = (_correct(each, split, device, draws) for each in (network, other))
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if gained - lost <= max(_LEAST_GAIN * len(before), _LEAST_DEVIATIONS * (gained + lost) ** 0.5):
        return None
    if normalizes:
        names, reason = ("with the first layer's normalization", "without it"), "the model seems to normalize inside"
    else:
        names, reason = ("without normalization", "with that of the data"), "the model seems to expect it"
    shares = [
        f"{100 * float(correct.double().mean()):.1f} % {name}"
        for correct, name in zip((before, after), names, strict=True)
    ]
    choice = "none" if normalizes else "data"
    return f"accuracy on {len(before)} {name} images: {', '.join(shares)}; {reason}: set `normalize: {choice}`"


def _correct(network: Network, split: Split | StoredSplit, device: torch.device, draws: int) -> Tensor:
    """Return which images of a split are classified correctly, bool `(N,)`; floats are made in parts."""
    judge = Judge(network, device=device, draws=draws)
    parts = [
        judge.logits(to_unit(split.images[rows])).argmax(1).cpu() == split.labels[rows]
        for rows in torch.arange(len(split)).split(judge.memory.size)
    ]
    return torch.cat(parts)
