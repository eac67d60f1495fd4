"""Carlini and Wagner's L2 attack: minimize squared distance plus c times a margin, with a binary search for c.

Carlini and Wagner 2017, arXiv:1608.04644, sections V and VI, in its symbols w, c, f and kappa.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import atanh, ceil

import torch
from torch import Tensor

from gauntlet.core.geometry import distances, per_sample
from gauntlet.registry import ATTACKS, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES, likeliest_targets
from gauntlet.robustness.attacks.base.model import OUTWARD, AttackModel

_INSIDE = 0.999999
"""Factor that keeps pixels off the edge of the box, where w would be infinite, as in the authors' code."""

_LARGEST_CONST = 1e10
_BETA1, _BETA2, _STABILIZER = 0.9, 0.999, 1e-8  # of Adam

_WINDOWS, _SHORTEST_WINDOW = 10, 5
_PROGRESS = 0.01
"""Share by which the objective must fall from one tenth of the steps to the next, for the search to go on."""

_BISECTIONS = 8
"""Halvings of the segment from the image to a success: it ends within 1/256 of the distance from the boundary."""


@ATTACKS.register(
    "carlini_wagner",
    kind="minimum_norm",
    norms=("l2",),
    access="gradient",
    batching="attack",
    losses=("margin",),
    source="Carlini and Wagner 2017, arXiv:1608.04644",
)
def carlini_wagner(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    steps: PositiveInt = 1000,
    binary_search_steps: PositiveInt = 9,
    initial_const: PositiveFloat = 1e-3,
    step_size: PositiveFloat = 0.01,
    confidence: NonNegativeFloat = 0.0,
    abort_early: bool = True,
    targets: NonNegativeInt = 0,
) -> Tensor:
    """Minimize ||x' - x||^2 + c f(x') over w, x' = (tanh(w) + 1) / 2; return the nearest misclassified image.

    f is max(z_y - max_{i != y} z_i + `confidence`, 0) for the logits z; Adam takes at most `steps` steps of `step_size`
    per constant. `binary_search_steps` constants c are tried per sample: ten times the last one until the sample is
    misclassified at the end of a search, then the middle between the largest c that failed and the smallest that
    succeeded. The nearest success of a search is retracted towards the image along the line between them, as far as it
    stays misclassified, and confirmed by the judge; the next search starts there, or at the image while there is none.
    With `abort_early` a sample leaves a search when a tenth of the steps lowers the objective by less than 1 %, but
    without any success only after as many steps as take a pixel from the edge of the box to its middle. `targets`
    searches towards each of that many likeliest other classes, one after the other. Cost per sample and target: a
    forward and a backward per step; for each constant whose search has a success nearer than the nearest so far, also 8
    forwards of the retraction and, except in a transfer, 1 to 10 of the judge: it is asked again about points moved
    outward while it refuses. Of a random model the judge decides what is a success in the searches and retractions too.
    With `targets`, one more forward ranks the classes. x is `(B, C, H, W)` in [0, 1], y int64 `(B,)`; the result has
    the shape of x, and is the image itself where nothing was found.
    """
    minimizer = _Minimizer(model, steps, step_size, confidence, abort_early)
    ranked: list[Tensor | None] = list(likeliest_targets(model.logits(x), y, targets).T) if targets else [None]
    x_adv, distance = minimizer.nearest(x, y, ranked[0], initial_const, binary_search_steps)
    for target in ranked[1:]:
        x_other, distance_other = minimizer.nearest(x, y, target, initial_const, binary_search_steps)
        nearer = (distance_other < distance).nonzero()[:, 0]
        x_adv[nearer], distance[nearer] = x_other[nearer], distance_other[nearer]
    return x_adv


@dataclass
class _Active:
    """State of the samples still searched at one constant; each field has one entry per active sample.

    `rows` are their indices among all samples. `m` and `v` are Adam's moments. `lowest` is the lowest objective in the
    current tenth of the steps, `before` that of all earlier ones; `succeeded` marks a success in the current tenth.
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    target: Tensor | None
    c: Tensor
    w: Tensor
    m: Tensor
    v: Tensor
    lowest: Tensor
    before: Tensor
    succeeded: Tensor

    def keep(self, kept: Tensor) -> None:
        """Drop all samples but those at the indices `kept`, int64 `(A,)`."""
        for field in fields(self):
            value = getattr(self, field.name)
            setattr(self, field.name, None if value is None else value[kept])


class _Minimizer:
    """The search with its settings; `step_size` is that of Adam, `kappa` the confidence."""

    def __init__(self, model: AttackModel, steps: int, step_size: float, kappa: float, abort_early: bool) -> None:
        self.model, self.steps, self.step_size, self.kappa = model, steps, step_size, kappa
        self.window = max(ceil(steps / _WINDOWS), _SHORTEST_WINDOW)
        self.abort_early = abort_early
        self.crossing = atanh(_INSIDE) / step_size
        self._judges = not model.transfers and model.judge.is_random

    def nearest(
        self, x: Tensor, y: Tensor, target: Tensor | None, initial_const: float, count: int
    ) -> tuple[Tensor, Tensor]:
        """Return the nearest misclassified images of `count` constants, and their L2 distances, float64 `(B,)`.

        Where nothing was found, the image itself and an infinite distance.
        """
        x_adv, start = x.clone(), _to_w(x)
        distance = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        c = torch.full_like(distance, initial_const)
        lower, upper = torch.zeros_like(c), torch.full_like(c, torch.inf)
        for _ in range(count):
            w, candidates, succeeded = self._search(x, y, target, start, c, distance)
            points = self._retracted(x[candidates], y[candidates], _to_image(w[candidates]), candidates)
            points, size = self._confirmed(x[candidates], y[candidates], points, candidates)
            nearer = (size < distance[candidates]).nonzero()[:, 0]
            rows = candidates[nearer]
            x_adv[rows], distance[rows], start[rows] = points[nearer], size[nearer], _to_w(points[nearer])
            upper, lower = torch.where(succeeded, c, upper), torch.where(succeeded, lower, c)
            c = torch.where(upper.isinf(), (10 * c).clamp(max=_LARGEST_CONST), (lower + upper) / 2)
        return x_adv, distance

    def _search(
        self, x: Tensor, y: Tensor, target: Tensor | None, start: Tensor, c: Tensor, distance: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run Adam from `start` with the constants c `(B,)`; return w `(B, C, H, W)` of the nearest successes.

        Also returns the indices of samples with a success nearer than `distance`, int64 `(A,)`, by the attacked copy,
        and which samples were misclassified in the last tenth of their steps, bool `(B,)`.
        """
        everything, flags = torch.arange(len(x), device=x.device), torch.zeros_like(y, dtype=torch.bool)
        infinite = x.new_full((len(x),), torch.inf)
        zeros = torch.zeros_like(start), torch.zeros_like(start)
        centers = _to_image(_to_w(x))  # The point whose w the image gets: distances in the objective start at 0.
        active = _Active(
            everything, centers, y, target, c.to(x.dtype), start.clone(), *zeros, infinite, infinite, flags.clone()
        )
        best_w, best, succeeded = start.clone(), distance.square().to(x.dtype), flags
        found = flags.clone()
        for step in range(self.steps):
            size, objective, success, gradient = self._objective(active)
            is_nearer = size < best[active.rows]
            success = self._without_luck(success, is_nearer | ~active.succeeded, active)
            nearer = (success & is_nearer).nonzero()[:, 0]
            rows = active.rows[nearer]
            best_w[rows], best[rows], found[rows] = active.w[nearer], size[nearer], True
            active.lowest = torch.fmin(active.lowest, objective)
            active.succeeded = active.succeeded | success
            if (self.steps - step - 1) % self.window == 0:
                succeeded[active.rows] = active.succeeded
                stalled = ~(active.lowest < (1 - _PROGRESS) * active.before)
                if step + 1 < self.crossing:
                    stalled &= best[active.rows].isfinite()
                if step == self.steps - 1:
                    break
                active.before = torch.minimum(active.before, active.lowest)
                active.lowest = torch.full_like(active.lowest, torch.inf)
                active.succeeded = torch.zeros_like(active.succeeded)
                going = (~stalled).nonzero()[:, 0]
                if self.abort_early and len(going) < len(stalled):
                    active.keep(going)
                    gradient = gradient[going]
                    if not len(going):
                        break
            self._adam_step(active, gradient, step + 1)
        return best_w, found.nonzero()[:, 0], succeeded

    def _without_luck(self, success: Tensor, needed: Tensor, active: _Active) -> Tensor:
        """Return which successes, bool `(A,)`, count; the judge of a random model confirms those that are needed.

        Few draws of the copy find many points adversarial that are not: the nearest of them would be kept, and the
        constant lowered.
        """
        if not self._judges:
            return success
        asked = (success & needed).nonzero()[:, 0]
        with self.model.subset(active.rows[asked]):
            confirmed = self.model.confirm(_to_image(active.w[asked]), active.y[asked])
        return success.index_put((asked,), confirmed)

    def _objective(self, active: _Active) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return squared distances, objectives and successes, `(A,)` each, and gradients with respect to w."""
        model = self.model
        loss = model.loss("margin", targeted=active.target is not None)
        x_adv = _to_image(active.w)
        with model.subset(active.rows):
            result = model.gradients(x_adv, active.y, loss, targets=active.target)
        logits = result.outputs if result.logits is None else result.logits
        margin = loss.value(result.outputs, active.y, active.y if active.target is None else active.target)
        shift = x_adv - active.x
        size = shift.flatten(1).square().sum(1)
        success = self._succeeds(logits, active.y)
        # The derivative of the margin is exact, so this is the gradient itself, not only its direction.
        weight = torch.where(margin > self.kappa, 0.0, active.c)
        gradient = shift.mul_(2).addcmul_(result.gradient, per_sample(weight, x_adv), value=-1)
        gradient.mul_(x_adv.mul_(1 - x_adv).mul_(2))  # dx'/dw = (1 - tanh(w)^2) / 2 = 2 x' (1 - x')
        return size, size + active.c * (self.kappa - margin).clamp(min=0), success, gradient

    def _adam_step(self, active: _Active, gradient: Tensor, step: int) -> None:
        active.m.lerp_(gradient, 1 - _BETA1)
        active.v.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = (active.v / (1 - _BETA2**step)).sqrt_().add_(_STABILIZER)
        active.w.addcdiv_(active.m, scale, value=-self.step_size / (1 - _BETA1**step))

    def _retracted(self, x: Tensor, y: Tensor, points: Tensor, rows: Tensor) -> Tensor:
        """Retract successes `(A, C, H, W)` towards their images x, by bisection.

        The copy decides, of a random model the judge too, which has more draws.
        """
        low, high = x.new_zeros(len(x)), x.new_ones(len(x))
        change = points - x
        for _ in range(_BISECTIONS if len(x) else 0):
            middle = (low + high) / 2
            point = x + per_sample(middle, x) * change
            with self.model.subset(rows):
                success = self._succeeds(self.model.logits(point), y)
                if self._judges:
                    success &= self.model.confirm(point, y)
            low, high = torch.where(success, low, middle), torch.where(success, middle, high)
        return torch.where(per_sample(high < 1, x), x + per_sample(high, x) * change, points)

    def _succeeds(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return which logits `(A, K)` are finite and those of another class, by a margin of kappa or more."""
        margin = UNTARGETED_LOSSES["margin"].value(logits, y, y)
        return (logits.argmax(1) != y) & (margin >= self.kappa) & logits.isfinite().all(1)

    def _confirmed(self, x: Tensor, y: Tensor, points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return points `(A, C, H, W)` that the judge confirms, and their distances, infinite where it refuses.

        A point on the boundary itself, where rounding decides, is moved outward until it is confirmed. In a transfer
        the sources alone decide.
        """
        if self.model.transfers or not len(x):
            return points, distances(points - x)["l2"]
        confirmed, tried = torch.zeros_like(y, dtype=torch.bool), points
        for outward in (0.0, *OUTWARD):
            refused = (~confirmed).nonzero()[:, 0]
            if not len(refused):
                break
            if outward:
                tried = (x[refused] + (1 + outward) * (points[refused] - x[refused])).clamp_(0.0, 1.0)
            with self.model.subset(rows[refused]):
                accepted = self.model.confirm(tried, y[refused])
            confirmed[refused] = accepted
            if outward:
                points[refused[accepted]] = tried[accepted]
        return points, torch.where(confirmed, distances(points - x)["l2"], torch.inf)


def _to_w(x: Tensor) -> Tensor:
    return torch.atanh((2 * x - 1) * _INSIDE)


def _to_image(w: Tensor) -> Tensor:
    return w.tanh().add_(1).mul_(0.5)
