"""Choice of the precision of an attack's passes where the configuration says `auto`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.core.arithmetic import float32_arithmetic, has_tf32_units
from gauntlet.core.device_errors import DeviceError, device_error, is_out_of_memory
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.registry import ATTACKS
from gauntlet.robustness.attacks.base.accelerated import AcceleratedModel
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import Passes, Precision
from gauntlet.robustness.evaluation.types import AttackSettings
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES

AGREEMENT = 0.95
"""Minimum cosine between the gradients in both precisions, and minimum share of the images that reach it."""

_COMPARED: tuple[Passes, Passes] = ("float32", "bfloat16")


def choose_precision(
    precision: Precision,
    attack: AttackSettings,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    device: torch.device,
    transfers: bool = False,
) -> Passes:
    """Return `precision`; for ``auto``, bfloat16 where it is faster and as good, else TF32 or, without it, float32.

    bfloat16 needs four things: an attack that uses only the direction of gradients (tag `directions_only`); steps that
    make up for the rounding of one of them (neither `has_few_steps` nor a transfer, whose success depends on the last
    point alone); a device with bfloat16 units; and a network whose gradients at the first PREFLIGHT_IMAGES images
    `(N, C, H, W)` agree in both precisions: a saturating output, for one, may have a gradient in float32 and none in
    bfloat16. `network` is the one that the attack sees. Success is judged in IEEE float32 in any case. Equal arguments
    on the same device give the same choice: if memory runs out, the gradients are computed for fewer images at a time.
    Raises GauntletError if memory does not suffice for one image, DeviceError if a kernel fails.
    """
    if precision != "auto":
        return precision
    rest: Passes = "tf32" if has_tf32_units(device) else "float32"
    tolerant = ATTACKS.entry(attack.spec.name).tags.get("directions_only", False) and attack.draws == 1
    # The gradients compared below are of the logits; raw outputs, of which a training loss is, may saturate earlier.
    if "training" in str(attack.spec.options.get("loss", "")):
        return rest
    if attack.has_few_steps or transfers:
        return rest
    if not (tolerant and has_bfloat16_units(device)):
        return rest
    x, y = images[:PREFLIGHT_IMAGES], labels[:PREFLIGHT_IMAGES]
    try:
        exact, rough = (_gradient(network, x, y, device, compared, attack.surrogate) for compared in _COMPARED)
    except Exception as error:  # a network may refuse bfloat16 in any way
        if is_out_of_memory(error) or (isinstance(error, GauntletError) and not isinstance(error, InputError)):
            raise
        if isinstance(failure := device_error(error), DeviceError):
            raise failure from error
        # What it also refuses in float32 is reported by the passes that follow.
        return rest
    agrees = functional.cosine_similarity(exact, rough) >= AGREEMENT
    lost = exact.any(1) & ~rough.any(1)
    return "bfloat16" if float((agrees & ~lost).double().mean()) >= AGREEMENT else rest


def has_bfloat16_units(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 matrices in hardware; elsewhere bfloat16 is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and multiplies_bfloat16(torch.cpu.get_capabilities())


def multiplies_bfloat16(capabilities: Mapping[str, Any]) -> bool:
    """Return whether a CPU with these `torch.cpu.get_capabilities()` has tiles or vector products of bfloat16.

    With vector products alone (AVX512-BF16), passes of 128 images took 0.5 to 0.8 of their time in float32 on most
    networks, and at most 1.04: docs/speed.md.
    """
    return any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16"))


def _gradient(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    device: torch.device,
    precision: Passes,
    surrogate: str | None,
) -> Tensor:
    """Return the gradients of the cross-entropy at images `(B, C, H, W)`: float32 `(B, D)`."""
    bfloat16 = precision == "bfloat16"
    model = AcceleratedModel([network], device=device, dtype=torch.float32, autocast=bfloat16, surrogate=surrogate)
    model.counts.start(len(images))
    x, y = images.to(device, model.dtype), labels.to(device)
    with float32_arithmetic("tf32" if bfloat16 else "ieee"):
        return model.gradients(x, y, UNTARGETED_LOSSES["cross_entropy"]).gradient.flatten(1)
