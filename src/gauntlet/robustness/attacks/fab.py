"""FAB: walk along the decision boundary, biased towards the image, to the nearest adversarial example."""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.geometry import distances, per_sample
from gauntlet.core.randomness import normal, uniform
from gauntlet.registry import ATTACKS, Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.model import AttackModel, misclassified
from gauntlet.robustness.attacks.base.objectives import TARGETED_OBJECTIVES, likeliest_rivals

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@ATTACKS.register(
    "fab",
    kind="minimum_norm",
    norms=("linf", "l2", "l1"),
    goal="untargeted",
    access="gradient",
    batching="attack",
    source="Croce and Hein 2020, arXiv:1907.02044",
)
def fab(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    keys: Tensor,
    steps: PositiveInt = 100,
    targets: NonNegativeInt = 9,
    restarts: PositiveInt = 1,
    bias: Fraction = 0.1,
    overshoot: PositiveFloat = 1.05,
    backward: Fraction = 0.9,
) -> Tensor:
    """Project onto the linearised boundary to another class, again and again; keep the nearest misclassified image.

    Each of the `targets` likeliest other classes gets `steps` steps (FAB-T); with `targets` 0 each step goes to the
    class whose linearised boundary is nearest, at the price of a forward and a backward for every class. A step goes
    `overshoot` times the way to the nearest point of that boundary inside the box, mixed with at most `bias` of the
    same from the image itself; a misclassified point is moved back to `backward` of its distance. The first run starts
    at the image, further `restarts` at random points within half the distance found so far. Cost per sample, target
    and step: 2 forwards, 1 backward. x is `(B, C, H, W)` in [0, 1], y and keys int64 `(B,)`; the result has the shape
    of x, the image itself where nothing was found.
    """
    walk = Walk(model, norm, steps=steps, bias=bias, overshoot=overshoot, backward=backward)
    return walk.search(x, y, keys, targets=targets, restarts=restarts)


class Walk:
    """The search, with its settings."""

    def __init__(
        self,
        model: AttackModel,
        norm: str,
        *,
        steps: int = 100,
        bias: float = 0.1,
        overshoot: float = 1.05,
        backward: float = 0.9,
    ) -> None:
        self.model, self.norm = model, norm
        self.classes = 0
        self.steps, self.bias, self.overshoot, self.backward = steps, bias, overshoot, backward

    def search(
        self, x: Tensor, y: Tensor, keys: Tensor, *, targets: int, restarts: int = 1, enough: float = 0.0
    ) -> Tensor:
        """Give the nearest misclassified images found `(B, C, H, W)`; a sample stops at a distance of `enough`."""
        model, outer = self.model, self.model.current_rows
        best, nearest = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        logits = model.logits(x)
        self.classes = logits.shape[1]
        every: list[Tensor | None] = list(likeliest_rivals(logits, y, targets).T) if targets else [None]
        for rank, aims in enumerate(every):
            for restart in range(restarts):
                rows = (nearest > enough).nonzero()[:, 0]
                if not len(rows):
                    return best
                start = x[rows]
                if restart:
                    # Where nothing was found yet, a ball of `enough`, or the whole box.
                    radius = torch.where(nearest.isinf(), enough or 1.0, nearest)[rows]
                    start = self._random_start(start, keys[rows], radius / 2, stream=f"start:{rank}:{restart}")
                with model.rows(outer[rows]):
                    chosen = None if aims is None else aims[rows]
                    self._run(x[rows], start, y[rows], chosen, best, nearest, rows, enough=enough)
        return best

    def _run(
        self,
        origin: Tensor,
        start: Tensor,
        y: Tensor,
        aims: Tensor | None,
        best: Tensor,
        nearest: Tensor,
        rows: Tensor,
        *,
        enough: float,
    ) -> None:
        """Walk once from `start` `(A, ...)`, and write what is nearer than before into `best` and `nearest`."""
        model, outer, own = self.model, self.model.current_rows, torch.arange(len(rows), device=rows.device)
        point = start
        for _ in range(self.steps):
            with model.rows(outer[own]):
                point = self._step(origin, point, *self._boundary(point, y, aims))
            size = distances(point - origin)[self.norm]
            with model.rows(outer[own]):
                logits = model.logits(point)
            wrong = logits.argmax(1) != y
            closer = (wrong & (size < nearest[rows])).nonzero()[:, 0]
            if len(closer):
                with model.rows(outer[own[closer]]):
                    closer = closer[misclassified(model, logits[closer], point[closer], y[closer])]
                best[rows[closer]], nearest[rows[closer]] = point[closer], size[closer]
            kept = (nearest[rows] > enough).nonzero()[:, 0]
            if len(kept) < len(rows):
                own, rows, y, wrong, origin, point = (one[kept] for one in (own, rows, y, wrong, origin, point))
                aims = None if aims is None else aims[kept]
                if not len(rows):
                    return
            point = torch.where(per_sample(wrong, point), origin + self.backward * (point - origin), point)

    def _boundary(self, point: Tensor, y: Tensor, aims: Tensor | None) -> tuple[Tensor, Tensor]:
        """Give the target's logit less the label's, `(B,)`, and its gradient; without aims, of the nearest class."""
        if aims is not None:
            # The margin's derivative is the gradient itself, not just its direction.
            slope = self.model.gradients(point, y, TARGETED_OBJECTIVES["margin"], targets=aims)
            return TARGETED_OBJECTIVES["margin"].value(slope.outputs, y, aims), slope.gradient
        value, gradient = self._boundary(point, y, (y <= 0).to(torch.int64))
        for rank in range(1, self.classes - 1):
            other, way = self._boundary(point, y, rank + (y <= rank).to(torch.int64))
            nearer = self._distance(other, way) < self._distance(value, gradient)
            value = torch.where(nearer, other, value)
            gradient = torch.where(per_sample(nearer, way), way, gradient)
        return value, gradient

    def _distance(self, value: Tensor, gradient: Tensor) -> Tensor:
        return value.abs() / distances(gradient)[_DUAL[self.norm]].clamp(min=1e-12)

    def _step(self, origin: Tensor, point: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """Step from `point` to the boundary value + <gradient, z - point> = 0, biased towards `origin`."""
        at_origin = value + (gradient * (origin - point)).flatten(1).sum(1)
        there = to_hyperplane(point, gradient, value, self.norm)
        from_origin = to_hyperplane(origin, gradient, at_origin, self.norm)
        far, near = (distances(way)[self.norm].clamp(min=1e-8) for way in (there, from_origin))
        share = per_sample((far / (far + near)).clamp(max=self.bias).to(point.dtype), point)
        # From beyond the boundary an overshoot leads back to the wrong side, just so far that the bias makes up for it:
        # the mixture would lie on the boundary itself, where rounding decides.
        factor = per_sample(torch.where(value > 0, 2 - self.overshoot, torch.full_like(value, self.overshoot)), point)
        mixed = (1 - share) * (point + factor * there) + share * (origin + self.overshoot * from_origin)
        return mixed.clamp_(0.0, 1.0)

    def _random_start(self, x: Tensor, keys: Tensor, radius: Tensor, *, stream: str) -> Tensor:
        if self.norm == "linf":
            noise = uniform(keys, x.shape[1:], stream=stream, low=-1.0, dtype=x.dtype)
        else:
            noise = normal(keys, x.shape[1:], stream=stream, dtype=x.dtype)
        factor = (radius / distances(noise)[self.norm]).to(x.dtype)
        return (x + noise * per_sample(factor, x)).clamp_(0.0, 1.0)


def to_hyperplane(point: Tensor, normal: Tensor, value: Tensor, norm: str) -> Tensor:
    """Give the shortest way `(B, ...)` from `point` to value + <normal, way> = 0 that stays in the box [0, 1].

    `value` is `(B,)`. Where the box does not reach the hyperplane, the way leads to the corner nearest to it. Entries
    whose normal is zero do not move.
    """
    w = normal.flatten(1)
    w = torch.where(value[:, None] > 0, -w, w)
    t = point.flatten(1)
    room = torch.where(w > 0, 1 - t, t) * (w != 0)
    steep = w.abs()
    if norm == "l1":
        moved = _steepest_first(steep, room, value.abs())
    elif norm == "linf":
        moved = torch.minimum(_level(steep, room, value.abs())[:, None], room)
    else:
        # Moving in proportion to the normal, each entry up to its room: the same with rescaled room.
        reach = room / torch.where(steep > 0, steep, 1.0)
        moved = torch.minimum(_level(steep.square(), reach, value.abs())[:, None], reach) * steep
    return (moved * w.sign()).view_as(point)


def _level(weights: Tensor, caps: Tensor, total: Tensor) -> Tensor:
    """Solve sum_i weights_i min(level, caps_i) = total for the level, `(B,)`; the largest cap where none solves it."""
    ordered, order = caps.sort(1)
    weight = weights.gather(1, order)
    filled = (weight * ordered).cumsum(1)  # by entries that have reached their cap
    open_ = weight.flip(1).cumsum(1).flip(1) - weight  # the weight of those above
    reached = ((filled + open_ * ordered) < total[:, None]).sum(1, keepdim=True)
    before = (reached - 1).clamp(min=0)
    base = torch.where(reached > 0, filled.gather(1, before), 0.0)[:, 0]
    rest = torch.where(reached > 0, open_.gather(1, before), weight.sum(1, keepdim=True))[:, 0]
    level = (total - base) / torch.where(rest > 0, rest, 1.0)
    highest = ordered[:, -1]
    return torch.where(rest > 0, torch.minimum(level, highest), highest)


def _steepest_first(steep: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """Spend `total` `(B,)` on the steepest entries first, each up to its room: how far each moves, `(B, D)`."""
    ordered, order = steep.sort(dim=1, descending=True, stable=True)
    gain = ordered * room.gather(1, order)
    needed = (total[:, None] - (gain.cumsum(1) - gain)).clamp(min=0.0)
    moved = torch.minimum(needed, gain) / torch.where(ordered > 0, ordered, 1.0)
    return torch.zeros_like(room).scatter(1, order, moved)
