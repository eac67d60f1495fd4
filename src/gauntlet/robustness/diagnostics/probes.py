"""Probes of one model for gradient masking: plain attacks on it, and the convergence of Gauntlet's own attacks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball
from gauntlet.learning.data.stored_images import UnitImages
from gauntlet.learning.models.network import Network
from gauntlet.robustness.diagnostics.chance import compare_with_chance
from gauntlet.robustness.diagnostics.gradient_comparison import compare_gradients
from gauntlet.robustness.diagnostics.loss_comparison import compare_losses
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from gauntlet.robustness.diagnostics.plain_pgd import (
    Trace,
    late_progress,
    margin_instability,
    plain_gradients,
    rescaled_gradients,
    saturated_outputs,
)
from gauntlet.robustness.diagnostics.probed_model import ProbedModel
from gauntlet.robustness.judge import CellIdentity, Judge
from gauntlet.robustness.networks import device_of
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES, check_eval_mode, check_images, check_model, needed_draws

NORMS = ("linf", "l2")
"""The norms that probes work in, apart from the comparison of losses."""

_NORMS_OF_LOSSES = (*NORMS, "l1")

_MORE_STEPS, _MORE_RESTARTS = 4, 4
_CLASSIFIED_AT_ONCE = 256
"""Images that are classified until enough are correct; a constant, so that no row depends on the batch size."""
_NEIGHBORS = 20
_PROGRESS = 0.05


def run_probes(
    network: nn.Module,
    images: Tensor | UnitImages,
    labels: Tensor,
    *,
    epsilons: Mapping[str, Sequence[float]],
    samples: int = 100,
    steps: int = 20,
    draws: int = 1,
    identity: CellIdentity | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 256,
) -> pa.Table:
    """Probe a model on the first `samples` images that it classifies correctly; return rows of MEASUREMENT_SCHEMA.

    Images are `(N, C, H, W)` in [0, 1], labels integers `(N,)`. `epsilons` are the budgets in use per norm, in pixel
    units; linf and l2 are probed, most checks at the middle budget. `steps` is the number of steps of each attack. Of a
    random model, and of no other, the mean over `draws` passes is probed. The rows depend on images, labels, model and
    the identity's seed, not on `batch_size` beyond rounding. Everything is computed in IEEE float32.

    Raises InputError when model or images cannot be used.
    Source: Pintor et al. 2022, arXiv:2106.09947; Carlini et al. 2019, arXiv:1902.06705.
    """
    check_images(images, labels)
    check_eval_mode(network)
    run_device = torch.device(device) if device is not None else device_of(network)
    draws = needed_draws(draws, (network,), images[:PREFLIGHT_IMAGES], device=run_device)
    judge = Judge(network, device=run_device, batch_size=batch_size, draws=draws)
    check_model(judge, images[:PREFLIGHT_IMAGES], labels)
    ids = identity or CellIdentity()
    correct = _correct(judge, images, labels, samples)
    index = correct.nonzero()[:samples, 0].tolist()
    measurements = [compare_with_chance(correct, labels[: len(correct)].cpu())]
    if index:
        size = judge.memory.current
        model = ProbedModel.build(
            network,
            images,
            labels,
            index,
            identity=ids,
            device=run_device,
            batch_size=size,
            draws=draws,
            formats=judge.images,
        )
        with float32_arithmetic():
            measurements += _gradient_checks(model)
            for norm in NORMS:
                if norm in epsilons:
                    measurements += _norm_checks(model, norm, sorted(epsilons[norm]), steps)
            for norm in _NORMS_OF_LOSSES:
                if norm in epsilons:
                    measurements.append(compare_losses(model, norm, sorted(epsilons[norm]), steps))
    return measurement_table(measurements, experiment=ids.experiment, variant=ids.variant, seed=ids.seed)


def _correct(judge: Judge, images: Tensor | UnitImages, labels: Tensor, count: int) -> Tensor:
    """Return which of the first images are classified correctly, bool `(N,)`, `count` of them or more if there are."""
    parts: list[Tensor] = []
    for start in range(0, len(images), _CLASSIFIED_AT_ONCE):
        part = slice(start, start + _CLASSIFIED_AT_ONCE)
        parts.append(judge.logits(images[part]).argmax(1).cpu() == labels[part].cpu())
        if sum(int(correct.sum()) for correct in parts) >= count:
            break
    return torch.cat(parts)


def _gradient_checks(model: ProbedModel) -> list[Measurement]:
    """Check the gradients at the images themselves."""
    view = model.network.outputs if isinstance(model.network, Network) else model.network

    def measure(x: Tensor, y: Tensor, _keys: Tensor) -> tuple[Tensor, ...]:
        plain = plain_gradients(model.network, x, y)[1].flatten(1)
        rescaled = rescaled_gradients(model.network, x, y).flatten(1)
        return plain.isfinite().all(1), plain.any(1), rescaled.any(1), saturated_outputs(view, x)

    finite, plain_nonzero, nonzero, saturated = model.measure_in_batches(measure)
    mean = float(saturated.float().mean())
    underflow = int((~plain_nonzero & nonzero).sum())
    return [
        model.share(
            "zero_gradients",
            None,
            ~nonzero,
            f"the gradient of the cross-entropy is exactly zero ({underflow} more without rescaling)",
        ),
        model.share("nonfinite_gradients", None, ~finite, "the gradient of the plain cross-entropy is not finite"),
        model.share(
            "saturated_outputs",
            None,
            saturated.any(1),
            f"the gradient of an output of the network is exactly zero ({100 * mean:.1f} % of all outputs)",
        ),
        compare_gradients(model),
    ]


def _norm_checks(model: ProbedModel, norm: str, grid: Sequence[float], steps: int) -> list[Measurement]:
    epsilon = grid[(len(grid) - 1) // 2]
    trace = model.plain_pgd(norm, epsilon, steps)
    return [
        *_trace_checks(model, norm, epsilon, trace, steps),
        *_convergence_checks(model, norm, epsilon, steps),
        *_surrogate_checks(model, norm, grid, epsilon, trace, steps),
    ]


def _trace_checks(model: ProbedModel, norm: str, epsilon: float, trace: Trace, steps: int) -> Iterator[Measurement]:
    """Check the path of plain PGD, and the surface around the images."""
    robust = ~trace.fooled[-1]
    attack = f"plain PGD with {steps} steps at ε = {epsilon:g}"
    yield model.share(
        "silent_success",
        norm,
        robust & trace.fooled.any(0),
        f"{attack} passed an adversarial point and returned a point that is not adversarial",
    )
    yield model.share(
        "incomplete_optimisation",
        norm,
        robust & (late_progress(trace.margins) > _PROGRESS),
        f"{attack} failed while its best margin still fell in the last quarter, by over {_PROGRESS:g} of its range",
    )

    def measure(x: Tensor, y: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        ball = Ball(x, epsilon / 10, norm)

        def neighbors(draw: int) -> Tensor:
            return ball.random_point(keys, stream=f"probe:near:{draw}")

        return (margin_instability(model.network, x, y, neighbors, _NEIGHBORS),)

    (instability,) = model.measure_in_batches(measure)
    mean = float(instability.double().mean())
    least_stable = instability.argsort(descending=True)[:10].tolist()
    yield Measurement(
        "unstable_predictions",
        norm,
        mean,
        len(model.y),
        f"the margin changes by {100 * mean:.1f} % on average over {_NEIGHBORS} random points within ε / 10 ="
        f" {epsilon / 10:g}, over {len(model.y)} samples",
        tuple(sorted(model.index[row] for row in least_stable)),
        len(model.y),
    )


def _convergence_checks(model: ProbedModel, norm: str, epsilon: float, steps: int) -> Iterator[Measurement]:
    """Check that Gauntlet's PGD, on which the reported numbers rest, has converged."""
    everything = torch.ones_like(model.y, dtype=torch.bool)
    unbounded = 1.0 if norm == "linf" else math.sqrt(model.x[0].numel())
    try:
        reached = model.pgd(norm, unbounded, everything, steps=steps)
        fooled = model.pgd(norm, epsilon, everything, steps=steps)
        by_steps = model.pgd(norm, epsilon, ~fooled, steps=_MORE_STEPS * steps)
        by_restarts = model.pgd(norm, epsilon, ~fooled, steps=steps, restarts=_MORE_RESTARTS)
    except InputError as error:
        refused = f"PGD cannot run: {error}"
        yield model.share("unbounded_budget", norm, everything, refused)
        yield from (Measurement.not_applicable(check, norm, refused) for check in ("more_steps", "more_restarts"))
        return
    yield model.share(
        "unbounded_budget",
        norm,
        ~reached,
        f"PGD with {steps} steps does not fool the model although ε = {unbounded:.3g} allows any image",
    )
    baseline = f"{int(fooled.sum())} are fooled by {steps} steps at ε = {epsilon:g}"
    yield model.share("more_steps", norm, by_steps, f"PGD needs {_MORE_STEPS * steps} steps; {baseline}")
    yield model.share(
        "more_restarts", norm, by_restarts, f"PGD needs up to {_MORE_RESTARTS} random starts; {baseline} from one"
    )


def _surrogate_checks(
    model: ProbedModel, norm: str, grid: Sequence[float], epsilon: float, stock: Trace, steps: int
) -> Iterator[Measurement]:
    """Compare gradients through the views that the model offers with those of its own logits, at the same cost."""
    if not model.surrogates:
        for check in ("surrogate_beats_stock", "non_transferability"):
            yield Measurement.not_applicable(check, norm, "the model offers no other view of itself")
        return
    wins: list[Measurement] = []
    transfers: list[Measurement] = []
    single_steps = {budget: model.plain_pgd(norm, budget, 1) for budget in grid}
    for name, view in model.surrogates.items():
        trace = model.plain_pgd(norm, epsilon, steps, view)
        pairs = [(epsilon, steps, trace, stock)]
        pairs += [(budget, 1, model.plain_pgd(norm, budget, 1, view), single_steps[budget]) for budget in grid]
        for budget, count, adaptive, plain in pairs:
            reverse = int((plain.fooled[-1] & ~adaptive.fooled[-1]).sum())
            fools, does = ("fools", "does") if count == 1 else ("fool", "do")
            wins.append(
                model.share(
                    "surrogate_beats_stock",
                    norm,
                    adaptive.fooled[-1] & ~plain.fooled[-1],
                    f"{_steps(count)} through {name} {fools} the model at ε = {budget:g}, the same through its logits"
                    f" {does} not ({reverse} the other way round)",
                )
            )
        transfers.append(
            model.share(
                "non_transferability",
                norm,
                trace.view_predictions != trace.predictions,
                f"{name} and the model assign different classes to the result of {_steps(steps)} through {name} at"
                f" ε = {epsilon:g}",
            )
        )
    yield from (max(candidates, key=lambda measurement: measurement.value or 0.0) for candidates in (wins, transfers))


def _steps(count: int) -> str:
    return "one plain gradient step" if count == 1 else f"{count} plain gradient steps"
