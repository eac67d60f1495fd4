"""Which precision an attack's passes run in, where the configuration leaves that open."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.core.errors import GauntletError
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.model import AttackModel, Precision
from gauntlet.robustness.attacks.base.objectives import OBJECTIVES
from gauntlet.robustness.evaluation.types import AttackPlan
from gauntlet.robustness.preflight import PROBES

AGREEMENT = 0.95
"""Cosine between the gradients in both precisions, and the share of images on which it must be reached."""


def choose(
    precision: Precision,
    attack: AttackPlan,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
) -> Literal["float32", "bfloat16", "float64"]:
    """Turn ``auto`` into bfloat16 where that is faster and as good, else into float32.

    It is chosen for an attack that needs only the direction of gradients (tag `directions_only`), on a device that
    multiplies bfloat16 in hardware, and for a network whose gradients at the first PROBES images `(N, C, H, W)` agree
    in both precisions: a saturating output, for one, may lose in bfloat16 the gradient that it still has in float32.
    `network` is the one that the attack sees. What is found is judged in float32 either way. The same arguments on the
    same device give the same choice.
    """
    if precision != "auto":
        return precision
    tolerant = ATTACKS.entry(attack.spec.name).tags.get("directions_only", False) and attack.draws == 1
    if not (tolerant and multiplies_bfloat16(device)):
        return "float32"
    x, y = images[:PROBES], labels[:PROBES]
    try:
        exact, rough = (_gradient(network, x, y, device, which, attack.surrogate) for which in _BOTH)
    except (RuntimeError, GauntletError):
        return "float32"
    agree = functional.cosine_similarity(exact, rough) >= AGREEMENT
    lost = exact.any(1) & ~rough.any(1)
    return "bfloat16" if float((agree & ~lost).double().mean()) >= AGREEMENT else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has units for bfloat16 matrices; elsewhere bfloat16 is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))


_BOTH: tuple[Precision, Precision] = ("float32", "bfloat16")


def _gradient(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    precision: Precision,
    surrogate: str | None,
) -> Tensor:
    """Give the gradients of cross-entropy at images `(B, C, H, W)`, float32 `(B, D)`."""
    model = AttackModel(network, device=device, precision=precision, surrogate=surrogate)
    model.start_counting(len(images))
    slope = model.gradients(images.to(device, model.dtype), labels.to(device), OBJECTIVES["cross_entropy"])
    return slope.gradient.flatten(1)
