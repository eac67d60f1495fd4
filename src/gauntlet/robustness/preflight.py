"""Checks of images and model before an evaluation starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.robustness.judge import Judge

PREFLIGHT_IMAGES = 32
"""Number of images on which a model is checked before an evaluation starts."""


def check_images(images: Tensor, labels: Tensor) -> None:
    """Check images, floats `(N, C, H, W)` in [0, 1], and labels, integers `(N,)`. Raises InputError."""
    if images.dim() != 4 or len(images) == 0:
        raise InputError(f"images have shape {tuple(images.shape)}", remedy="give (N, C, H, W) with N >= 1")
    if labels.dim() != 1 or len(labels) != len(images) or labels.is_floating_point() or labels.dtype == torch.bool:
        problem = f"labels are {labels.dtype} of shape {tuple(labels.shape)}"
        raise InputError(problem, remedy=f"give {len(images)} integers, one per image")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0.0 and high <= 1.0):  # NaN too
        raise InputError(
            f"images lie in [{low:g}, {high:g}], not in [0, 1]",
            remedy="divide 8-bit images by 255 and put normalization into the model as its first layer",
        )


def check_eval_mode(network: nn.Module) -> None:
    """Check that no layer is in train mode. Raises InputError."""
    training = [name or type(network).__name__ for name, module in network.named_modules() if module.training]
    if training:
        raise InputError(f"the model is in train mode ({training[0]})", remedy="call model.eval() first")


def check_logits(judge: Judge, images: Tensor, labels: Tensor) -> None:
    """Check all labels, and the model on a few images: logits `(B, K)`, finite, repeatable, not probabilities.

    Raises InputError.
    """
    x = images[:PREFLIGHT_IMAGES]
    logits = judge.logits(x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        returned = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model returns {returned} for {len(x)} images", remedy="it must return logits (B, K)")
    if not logits.isfinite().all():
        raise InputError("the model's outputs are not finite", remedy="look at its weights")
    classes, low, high = logits.shape[1], int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        problem = f"labels lie in [{low}, {high}] but the model has {classes} classes"
        raise InputError(problem, remedy=f"labels must lie in [0, {classes - 1}]")
    scale = max(1.0, float(logits.abs().max()))
    if float((judge.logits(x) - logits).abs().max()) > 1e-4 * scale:
        raise InputError(
            "the model's outputs differ between two passes over the same images",
            remedy="set `draws: 20` if it is random on purpose, else remove its randomness",
        )
    sums = logits.sum(1)
    if bool((logits >= 0).all() and (logits <= 1).all() and ((sums - 1).abs() < 1e-4).all()):
        raise InputError("the model returns probabilities", remedy="return logits: leave out the final softmax")
