"""`gauntlet.evaluate` for notebooks: any torch model, any images, the rows that the pipeline would write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gauntlet.config.attacks import Attack
from gauntlet.config.error_texts import plain_errors
from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.attacked_budgets import budgets_metadata
from gauntlet.core.device_errors import device_errors_reported
from gauntlet.core.errors import InputError, InputErrors, nearest
from gauntlet.core.randomness import derive_seed
from gauntlet.core.seeding import seeded
from gauntlet.registry.option_types import MAX_SEED
from gauntlet.robustness.attacks.base.model import Precision
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity
from gauntlet.robustness.evaluation import evaluate as run
from gauntlet.robustness.evaluation.verification import BOX_TOLERANCE
from gauntlet.robustness.networks import device_of


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
    """Attack a model and return one row per image: EVALUATION_SCHEMA, in the order of the images.

    `model` maps images `(B, C, H, W)` in [0, 1] to logits `(B, K)` and is in eval mode; neither it nor the images are
    changed. `images` are `(N, C, H, W)`, floats in [0, 1] or uint8 in [0, 255], `labels` integers `(N,)`. `attack` is
    an entry of `attacks:` as in a configuration file, for example
    ``{"name": "pgd", "norm": "linf", "epsilons": [0.03, 0.1], "steps": 40}``.
    With `sources`, one model or several, the attack sees these instead of `model`, which only classifies the resulting
    images (transfer). The rows are those of the pipeline's cell with the same seed. Robust accuracy at a budget is the
    share of rows whose `status` is not error and whose `epsilon` is null or above the budget
    (`gauntlet.robust_accuracy`).

    Raises InputError when model, images, labels or attack cannot be used, which experiments with the model find out
    (`gauntlet.robustness.preflight`), AttackError when the attack fails. Warns when the attack's images are invalid
    (outside the ball or the box, not finite): these rows have status error and a null `epsilon`, and count as not
    robust.
    """
    checked = _validated(attack)
    seen = tuple(sources) if isinstance(sources, list | tuple | nn.ModuleList) else (sources,)
    for each in (model, *seen):
        if not isinstance(each, nn.Module):
            kind = "the model" if each is model else "a source"
            raise InputError(f"{kind} is a {type(each).__name__}", remedy="pass a torch.nn.Module")
    if checked.transfer_from is not None:
        raise InputError("variants are not known here", where="attack.transfer_from", remedy="pass models as `sources`")
    if checked.units != "pixels":
        remedy = "multiply the budgets by the data's standard deviation and leave `units` out"
        raise InputError("the data's standard deviation is not known here", where="attack.units", remedy=remedy)
    _check_names(name=name or "", experiment=experiment, variant=variant)
    seed, batch_size = _integer(seed), _integer(batch_size)
    _check_settings(seed, batch_size, precision)
    run_device = _device(device_of(model) if device is None else device)
    settings = AttackSettings(
        name=name or checked.attack.name,
        spec=checked.attack,
        norm=checked.norm,
        epsilons=checked.epsilons,
        surrogate=checked.surrogate,
        draws=checked.draws,
        seed=checked.seed,
    )
    with _settings_of_the_pipeline(run_device):
        result = run(
            model,
            *_first(_images(images), _tensor(labels, "labels"), checked.samples),
            settings,
            identity=CellIdentity(experiment, variant, seed),
            keep_examples=0,
            device=run_device,
            precision=precision,
            batch_size=batch_size,
            sources=seen,
        )
    if result.errors:
        count = result.rows["status"].to_pylist().count("error")
        warnings.warn(
            f"{count} of {len(result.rows)} rows have status error and count as not robust: {result.errors[0]}",
            UserWarning,
            stacklevel=2,
        )
    # A row has a budget only where it was fooled, so those of the attack are in the metadata.
    return result.rows.replace_schema_metadata(budgets_metadata({settings.name: settings.epsilons}))


@contextmanager
def _settings_of_the_pipeline(device: torch.device) -> Iterator[None]:
    """Compute with torch's defaults inside: gradients, float32 and CPU for new tensors; restore the caller's after.

    A model that seeds or draws moves no generator of the caller.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(seeded(derive_seed("api"), device))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(device_errors_reported())
        stack.enter_context(float32_arithmetic())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        yield


def _device(device: Any) -> torch.device:
    """Return a device that holds numbers here. Raises InputError for any other."""
    try:
        found = torch.device(device)
        if found.type == "mps":
            remedy = "move the model to the CPU: model.to('cpu')"
            raise InputError("device 'mps' is not supported: it has no float64, which distances need", remedy=remedy)
        if found.type != "cpu":
            torch.zeros(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        remedy = "leave `device` out, or name one that torch sees, such as 'cpu'"
        raise InputError(f"there is no device {str(device)!r} here", remedy=remedy) from error
    return found


def _integer(value: Any) -> Any:
    """Return an integer of another library, such as NumPy's, as Python's; anything else as it is."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _plain(value: Any) -> Any:
    """Return numbers and arrays of other libraries inside a value as Python's numbers and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return value.tolist()
    return value


def _check_names(**names: Any) -> None:
    for key, value in names.items():
        if not isinstance(value, str):
            raise InputError(f"{key} is a {type(value).__name__}", remedy="pass a string")


def _check_settings(seed: int, batch_size: int | Literal["auto"], precision: str) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed is {seed!r}", remedy=f"choose an integer from 0 to {MAX_SEED}")
    if batch_size != "auto" and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"the batch size is {batch_size!r}", remedy="choose a positive integer, or 'auto'")
    if not isinstance(precision, str) or precision not in get_args(Precision):
        raise InputError(f"unknown precision {precision!r}", remedy=nearest(str(precision), get_args(Precision)))


def _validated(attack: Mapping[str, Any] | str) -> Attack:
    """Validate an attack as in a configuration file. Raises InputErrors, one line per problem."""
    try:
        return Attack.model_validate(_plain(attack))
    except ValidationError as error:
        raise InputErrors(
            InputError(message, where=".".join(map(str, ("attack", *key_path))))
            for key_path, message in plain_errors(error.errors())
        ) from error


def _images(images: Tensor | np.ndarray) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 divided by 255, floats as they are.

    Floats that are outside [0, 1] by a rounding error are clipped, with a warning; the evaluator refuses those farther
    outside. Raises InputError.
    """
    tensor = _tensor(images, "images")
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.float32) / 255
    if not tensor.is_floating_point():
        raise InputError(f"images are {tensor.dtype}", remedy="pass floats in [0, 1] or uint8 in [0, 255]")
    floats = tensor.to(torch.float32)
    clipped = floats.clamp(0.0, 1.0)
    excess = float((floats - clipped).abs().max()) if floats.numel() else 0.0
    if not 0 < excess <= BOX_TOLERANCE:
        return floats
    warnings.warn(f"images lie up to {excess:.1g} outside [0, 1] and are clipped", UserWarning, stacklevel=3)
    return clipped


def _first(images: Tensor, labels: Tensor, samples: int | None) -> tuple[Tensor, Tensor]:
    """Return the first `samples` images and labels, all for None. Raises InputError where there are fewer."""
    # The evaluator refuses images and labels that do not match.
    if samples is None or not images.dim() or images.shape[:1] != labels.shape[:1]:
        return images, labels
    if samples > len(images):
        remedy = f"choose at most {len(images)}, or leave it out"
        raise InputError(f"{samples} is more than the {len(images)} images", where="attack.samples", remedy=remedy)
    return images[:samples], labels[:samples]


def _tensor(values: Any, name: str) -> Tensor:
    """Return a tensor or array as a tensor without gradient. Raises InputError."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_quantized or values.is_nested:
            raise InputError(f"{name} are a sparse, nested or quantized tensor", remedy="pass a dense tensor")
        # A copy of a tensor made in inference mode is an ordinary one.
        return values.clone() if values.is_inference() else values.detach()
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise InputError(f"{name} have masked entries", remedy="fill them, or leave these images out")
    try:
        array = np.asarray(values)
        if array.dtype == object:  # such as a column of a data frame
            array = np.array(array.tolist())
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        return torch.as_tensor(array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"{name} are a {type(values).__name__} that is no array of numbers"
        raise InputError(problem, remedy="pass a tensor or an array of numbers") from error
