"""Check that the gradient of a model predicts how its outputs change."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gauntlet.core.randomness import normal
from gauntlet.robustness.diagnostics.measurements import Measurement
from gauntlet.robustness.diagnostics.probed_model import ProbedModel
from gauntlet.robustness.random_networks import MeanNetwork

CHECK = "wrong_gradients"

_DIRECTIONS = 12
_SIZES = (1e-3, 1e-2, 1e-1)
"""Standard deviations of the steps per pixel. Inputs that are rounded to levels answer to the larger ones only."""
_LEAST_COSINE = 0.5
_ROUNDING = 2.0**-20
"""Share of the largest logit up to which a change may be rounding."""


def compare_gradients(model: ProbedModel) -> Measurement:
    """Measure the share of samples whose gradient is not that of the function that the model computes."""
    if isinstance(model.network, MeanNetwork):
        reason = "two images of a random model differ by its draws too"
        return Measurement.not_applicable(CHECK, None, reason)

    def measure(x: Tensor, y: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        return (has_wrong_gradient(model.network, x, y, keys),)

    (wrong,) = model.measure_in_batches(measure)
    return model.share(
        CHECK,
        None,
        wrong,
        f"over {_DIRECTIONS} random directions, the gradient of the margin and its change in steps of any size have a"
        f" cosine below {_LEAST_COSINE:g}",
    )


def has_wrong_gradient(network: nn.Module, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
    """Return for which images the gradient does not predict the margin's changes in random steps: bool `(B,)`.

    x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`. The margin is that over the class which is second at x. Its
    change between the two points x ± step is compared with the gradient's prediction, by their cosine over all
    directions, since a factor misleads no attack. One size of steps with a cosine of 0.5 suffices; a margin that does
    not change in any step has no wrong gradient.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        logits = network(leaf.clone())  # A network may write into its input.
        second = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
        gradient = None
        if logits.requires_grad:
            (gradient,) = torch.autograd.grad(_lead(logits, y, second).sum(), leaf, allow_unused=True)
    slope = torch.zeros_like(x) if gradient is None else gradient.nan_to_num(0.0)
    changed, agrees = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool)
    for size in _SIZES:
        rows = (~agrees).nonzero()[:, 0]
        if len(rows):
            does_change, cosine = _changes(network, x[rows], y[rows], second[rows], slope[rows], keys[rows], size)
            changed[rows] |= does_change
            agrees[rows] = does_change & (cosine >= _LEAST_COSINE)
    return changed & ~agrees


@torch.no_grad()
def _changes(
    network: nn.Module, x: Tensor, y: Tensor, second: Tensor, slope: Tensor, keys: Tensor, size: float
) -> tuple[Tensor, Tensor]:
    """Return whether the margin changes in steps of one size, and the cosine of its changes and their prediction."""
    changes, predictions = [], []
    largest = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for direction in range(_DIRECTIONS):
        step = size * normal(keys, x.shape[1:], stream=f"probe:direction:{direction}", dtype=x.dtype)
        points = (x + step).clamp(0.0, 1.0), (x - step).clamp(0.0, 1.0)
        above, below = (network(point.clone()).double() for point in points)
        changes.append(_lead(above, y, second) - _lead(below, y, second))
        predictions.append((slope.double() * (points[0].double() - points[1].double())).flatten(1).sum(1))
        largest = torch.maximum(largest, torch.maximum(above.abs().amax(1), below.abs().amax(1)))
    change, prediction = torch.stack(changes, 1), torch.stack(predictions, 1)
    length = torch.linalg.vector_norm(change, dim=1) * torch.linalg.vector_norm(prediction, dim=1)
    cosine = (change * prediction).sum(1) / torch.where(length > 0, length, 1.0)
    return (change.abs() > _ROUNDING * largest[:, None]).any(1), cosine


def _lead(logits: Tensor, y: Tensor, second: Tensor) -> Tensor:
    """Return the logit of y minus that of the second class, `(B,)`."""
    return (logits.gather(1, y[:, None]) - logits.gather(1, second[:, None]))[:, 0]
