"""The evaluation engine for notebooks: any torch model, any images, the rows that the pipeline would write."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.config.attacks import Attack
from gauntlet.config.components import error_text
from gauntlet.core.errors import InputError, InputErrors, nearest
from gauntlet.registry.option_types import MAX_SEED
from gauntlet.robustness.attacks.base.model import Precision
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity
from gauntlet.robustness.evaluation import evaluate as run
from gauntlet.robustness.evaluation.verification import BOX_TOLERANCE


def evaluate(
    model: nn.Module,
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray,
    attack: Mapping[str, Any] | str,
    *,
    seed: int = 0,
    name: str | None = None,
    experiment: str = "",
    variant: str = "",
    device: str | torch.device | None = None,
    precision: Precision = "auto",
    batch_size: int | Literal["auto"] = "auto",
    sources: nn.Module | Sequence[nn.Module] = (),
) -> pa.Table:
    """Attack a model and give one row per image: EVALUATION_SCHEMA, in the order of the images.

    `model` maps images `(B, C, H, W)` in [0, 1] to logits `(B, K)` and is in eval mode; it is not changed. `images` are
    `(N, C, H, W)`, floats in [0, 1] or uint8 in [0, 255], `labels` integers `(N,)`. `attack` is an entry of `attacks:`
    as in a configuration file, for example ``{"name": "pgd", "norm": "linf", "epsilons": [0.03, 0.1], "steps": 40}``.
    With `sources`, one model or several, the attack sees these instead of `model`, which then only judges what they
    bring forth (transfer). The rows are those of the pipeline's cell with the same seed. Robust accuracy at a budget is
    the share of rows whose `epsilon` (a float32, as 0.1 then is) is null or above it.

    Raises InputError when model, images, labels or attack cannot be used, AttackError when the attack fails; warns when
    it broke its promise for single images, whose status is then error.
    """
    checked = attack_of(attack)
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}", remedy="give a torch.nn.Module")
    if checked.transfer_from is not None:
        raise InputError("variants have no names here", where="attack.transfer_from", remedy="give models as `sources`")
    if checked.units != "pixels":
        remedy = "multiply the budgets by the data's standard deviation and leave `units` out"
        raise InputError("the data's standard deviation is not known here", where="attack.units", remedy=remedy)
    _check_settings(seed, batch_size, precision)
    plan = AttackSettings(
        name=name or checked.attack.name,
        spec=checked.attack,
        norm=checked.norm,
        epsilons=checked.epsilons,
        surrogate=checked.surrogate,
        draws=checked.draws,
        seed=checked.seed,
    )
    result = run(
        model,
        images_of(images),
        labels_of(labels),
        plan,
        identity=CellIdentity(experiment, variant, seed),
        keep_examples=0,
        device=device,
        precision=precision,
        batch_size=batch_size,
        sources=(sources,) if isinstance(sources, nn.Module) else sources,
    )
    if result.errors:
        warnings.warn(
            f"{len(result.errors)} or more rows have status error; {result.errors[0]}", UserWarning, stacklevel=2
        )
    return result.rows


def _check_settings(seed: int, batch_size: int | Literal["auto"], precision: str) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed is {seed!r}", remedy=f"give an integer from 0 to {MAX_SEED}")
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"the batch size is {batch_size!r}", remedy="give a positive integer, or 'auto'")
    if precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}", remedy=nearest(str(precision), get_args(Precision)))


def attack_of(attack: Mapping[str, Any] | str) -> Attack:
    """Validate an attack as a configuration file would. Raises InputErrors, one line per problem."""
    try:
        return Attack.model_validate(attack)
    except ValidationError as error:
        problems = [(".".join(map(str, details["loc"])), error_text(dict(details))) for details in error.errors()]
        raise InputErrors(
            InputError(text, where=".".join(filter(None, ("attack", at)))) for at, text in problems
        ) from error


def images_of(images: Tensor | np.ndarray) -> Tensor:
    """Give images as float32 in [0, 1]: uint8 divided by 255, floats as they are.

    Floats a rounding error outside [0, 1] are clipped, with a warning; farther out they are left for the engine to
    refuse. Raises InputError.
    """
    tensor = _tensor(images, "images")
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.float32) / 255
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}", remedy="give floats in [0, 1] or uint8 in [0, 255]")
    exact = tensor.to(torch.float32)
    boxed = exact.clamp(0.0, 1.0)
    beyond = float((exact - boxed).abs().max()) if exact.numel() else 0.0
    if not 0 < beyond <= BOX_TOLERANCE:
        return exact
    warnings.warn(f"images lie up to {beyond:.1g} outside [0, 1] and are clipped", UserWarning, stacklevel=3)
    return boxed


def labels_of(labels: Tensor | np.ndarray) -> Tensor:
    """Give labels as a tensor. Raises InputError."""
    return _tensor(labels, "labels")


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} are a {type(values).__name__}: {error}", remedy="give a tensor or an array"
        ) from error
