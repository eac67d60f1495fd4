"""Experiments with a model in evaluation mode: what it returns, whether it repeats it, and what a row depends on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.core.randomness import generator
from gauntlet.core.seeding import seeded
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.networks import copy_network, usable_network
from gauntlet.robustness.preflight.images import PREFLIGHT_IMAGES
from gauntlet.robustness.preflight.rounding import exceeds_rounding, largest_difference, largest_logit
from gauntlet.robustness.preflight.state import StateRecord
from gauntlet.robustness.random_networks import RandomOperations

_LEAST_IMAGES = 8
_SMALL_IMAGE = 3 * 64 * 64
"""Largest number of values of an image for which PREFLIGHT_IMAGES images are used, not _LEAST_IMAGES."""
_DRAWS = 3
_REPEATS = 1e-5
"""Share of the largest logit by which two passes over the same batch may differ (atomic additions on a GPU)."""


def check_eval_mode(network: nn.Module) -> None:
    """Check that no layer is in train mode, and that each has its weights. Raises InputError."""
    usable = usable_network(network)
    lazy = [name for name, value in usable.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        problem = f"the model has lazy layers that have no weights yet ({lazy[0]})"
        raise InputError(problem, remedy="pass an image through it first")
    if "eval" in vars(usable):  # The module of an exported program: its mode was fixed when it was exported.
        return
    training = [name or type(usable).__name__ for name, module in usable.named_modules() if _trains(module)]
    if training:
        raise InputError(f"the model is in train mode ({training[0]})", remedy="call model.eval() first")


def needed_draws(draws: int, networks: Sequence[nn.Module], images: Tensor, *, device: torch.device) -> int:
    """Return `draws` if one of the networks is random, else 1: more passes of the others give nothing new.

    A network is random if it draws random numbers of torch, or gives other outputs in a second pass over the first
    images `(N, C, H, W)`. Raises InputError when it cannot classify them.
    """
    return draws if draws > 1 and any(_is_random(network, images, device) for network in networks) else 1


def _is_random(network: nn.Module, images: Tensor, device: torch.device) -> bool:
    judge = Judge(network, device=device)
    watch = RandomOperations()
    with seeded(0, device):
        with watch:
            first = judge.logits(images[:_LEAST_IMAGES])
        return watch.found or _differ(first, judge.logits(images[:_LEAST_IMAGES]))


def _trains(module: nn.Module) -> bool:
    return bool(getattr(module, "training", False))  # A frozen scripted module has no mode.


def check_model(
    judge: Judge, images: Tensor, labels: Tensor | None, *, trained: bool = True, certified: bool = False
) -> Tensor:
    """Check a model, in evaluation mode, on the first images `(N, C, H, W)`, and all labels; return its logits there.

    Experiments: logits `(B, K)`, finite (for a model that is `trained`), not probabilities; two passes over the same
    batch agree, for a random model with the same draws; a row is the same in batches of 1 to 12 images, in the
    opposite order and among other images; a copy gives the same; the state dict and the modes of layers stay as they
    are (they are put back otherwise). Where rows differ by more than the smallest amounts, a copy in float64 separates
    rounding from dependence. A model to be `certified` must not be random. Without `labels`, any number of classes is
    accepted. The caller's random generators are left alone.

    Raises InputError.
    """
    check_eval_mode(judge.network)
    count = min(len(images), PREFLIGHT_IMAGES if images[0].numel() <= _SMALL_IMAGE else _LEAST_IMAGES)
    x = _with_noise(images[:count].to(judge.device, judge.dtype))
    state = StateRecord(judge.network)
    with seeded(0, judge.device):
        try:
            logits = judge.logits(x, draws=_DRAWS)
            _check_outputs(logits, count, labels, trained=trained)
            again = judge.logits(x, draws=_DRAWS)
        finally:
            changed = state.restore()
        if changed:
            problem = f"the model changes its own state when it classifies ({changed})"
            raise InputError(problem, remedy="keep statistics, counters and modes as they are in evaluation mode")
        if _differ(logits, again):
            raise _not_repeatable(judge, x, certified=certified)
        _check_rows(judge, x)
        _check_copy(judge, x)
    return logits[:count]


def _with_noise(x: Tensor) -> Tensor:
    """Add images of uniform noise to a few, so that no batch is of one image and a constant output shows."""
    missing = max(1, _LEAST_IMAGES - len(x))
    noise = torch.rand((missing, *x.shape[1:]), generator=generator("preflight", "noise"), dtype=torch.float64)
    return torch.cat([x, noise.to(x)])


def _check_outputs(logits: Tensor, count: int, labels: Tensor | None, *, trained: bool) -> None:
    if trained and not logits[:count].isfinite().all():
        raise InputError("the model's outputs are not finite", remedy="look at its weights")
    if labels is not None:
        classes, low, high = logits.shape[1], int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            problem = f"labels lie in [{low}, {high}] but the model has {classes} classes"
            raise InputError(problem, remedy=f"labels must lie in [0, {classes - 1}]")
    in_range = bool((logits >= 0).all() and (logits <= 1).all() and ((logits.sum(1) - 1).abs() < 1e-4).all())
    # Constant logits such as (0, ..., 0, 1) are no probabilities: these vary.
    if in_range and bool((logits != logits[:1]).any()):
        raise InputError("the model returns probabilities", remedy="return logits: leave out the final softmax")


def _differ(first: Tensor, second: Tensor) -> bool:
    return largest_difference(first, second) > _REPEATS * largest_logit(first)


def _not_repeatable(judge: Judge, x: Tensor, *, certified: bool) -> InputError:
    """Return the refusal of a model that two passes over the same images disagree about."""
    passes = []
    for _ in range(2):
        with seeded(1, judge.device):
            passes.append(judge.logits(x, draws=_DRAWS))
    if _differ(*passes):
        problem = "the model's outputs differ between two passes over the same images with equal random seeds"
        return InputError(problem, remedy="remove what it remembers from earlier passes, and generators of its own")
    problem = "the model's outputs differ between two passes over the same images"
    remedy = "set `draws: 20` if it is random on purpose, else remove its randomness"
    if certified:
        remedy = "certify only models that are not random: no certificate is about a mean over draws"
    return InputError(problem, remedy=remedy)


def _check_copy(judge: Judge, x: Tensor) -> None:
    """Check that a copy, which attacks work on, gives the same outputs. Raises InputError."""
    copied = Judge(copy_network(judge.network), device=judge.device, dtype=judge.dtype, draws=judge.draws)
    expected = judge.logits(x, draws=_DRAWS)
    judge.logits(x[:1], draws=_DRAWS)  # What the model keeps from its last pass must not reach the copy.
    try:
        differs = _differ(expected, copied.logits(x, draws=_DRAWS))
    except InputError:
        differs = True
    if differs:
        problem = "a copy of the model, on which attacks work, gives other outputs than the model"
        remedy = "let hooks and functions use the module that they are called with, not the one that made them"
        raise InputError(problem, remedy=remedy)


def _check_rows(judge: Judge, x: Tensor) -> None:
    """Check that the rows of logits do not depend on the batch. Raises InputError."""
    try:
        if not exceeds_rounding(judge, x, _difference_between_batches):
            return
    except InputError as error:
        problem = f"{error.problem}, though it classifies {len(x)} at once"
        raise InputError(problem, remedy=error.remedy) from error
    if judge.is_random:
        problem = "an image's draws depend on the other images of its batch"
        raise InputError(problem, remedy="draw with torch, in tensors whose first dimension is the batch")
    difference, scale = _difference_between_batches(judge, x)
    raise _depends(difference, scale)


def _depends(difference: float, scale: float) -> InputError:
    share = difference / scale if scale else float("inf")
    problem = f"the model's outputs for an image depend on the batch it is in, by {share:.1g} of the largest logit"
    return InputError(problem, remedy="in evaluation mode use no statistic of the batch and no position in it")


def _difference_between_batches(judge: Judge, x: Tensor) -> tuple[float, float]:
    """Compare the rows of one batch with those of small batches, of the opposite order and among other images."""
    whole = judge.logits(x, draws=_DRAWS)
    separate = torch.cat([judge.logits(x[part], draws=_DRAWS) for part in _parts(len(x))])
    opposite = judge.logits(x.flip(0), draws=_DRAWS).flip(0)
    half = len(x) // 2
    others = judge.logits(torch.cat([x[:half], x[:1].expand_as(x[half:])]), draws=_DRAWS)
    pairs = [(whole, separate), (whole, opposite), (whole[:half], others[:half])]
    return max(largest_difference(*pair) for pair in pairs), largest_logit(whole)


def check_first_batch(judge: Judge, x: Tensor, logits: Tensor) -> None:
    """Check that the rows of logits `(B, K)` of a whole batch equal those of small batches. Raises InputError."""
    if judge.is_random or len(x) <= PREFLIGHT_IMAGES:
        return

    def between_sizes(of: Judge, images: Tensor) -> tuple[float, float]:
        whole = of.logits(images)
        few = torch.cat([of.logits(part) for part in images.split(PREFLIGHT_IMAGES)])
        return largest_difference(whole, few), largest_logit(whole)

    few = torch.cat([judge.logits(part) for part in x.split(PREFLIGHT_IMAGES)])
    if _differ(logits, few) and exceeds_rounding(judge, x, between_sizes):
        raise _depends(largest_difference(logits, few), largest_logit(few))


def _parts(count: int) -> list[slice]:
    """Return consecutive parts of 1, 1, 2, 3, 5, 8, 12, 12, ... samples: even and odd sizes and starts."""
    parts, start, sizes = [], 0, [1, 1, 2, 3, 5, 8]
    while start < count:
        size = sizes.pop(0) if sizes else 12
        parts.append(slice(start, min(start + size, count)))
        start += size
    return parts
