"""FAB, the fast adaptive boundary attack: projections onto the linearized decision boundary, biased to the image.

Croce and Hein 2020, arXiv:1907.02044, Algorithm 1, in its symbols.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gauntlet.core.geometry import distances, per_sample
from gauntlet.core.randomness import normal, uniform
from gauntlet.registry import ATTACKS, Fraction, NonNegativeInt, PositiveFloat, PositiveInt
from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES, likeliest_targets
from gauntlet.robustness.attacks.base.model import AttackModel

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@ATTACKS.register(
    "fab",
    kind="minimum_norm",
    norms=("linf", "l2", "l1"),
    access="gradient",
    batching="attack",
    losses=("margin",),
    per_class={"targets": 0},
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
    """Project onto the linearized boundary to another class, step by step; return the nearest misclassified image.

    Each of the `targets` likeliest other classes gets `steps` steps (FAB-T). With `targets: 0` each step projects onto
    the nearest of the linearized boundaries, which costs a forward and a backward for every class. A step goes
    `overshoot` (eta) times the way to the nearest point of the boundary inside the box, averaged with the same step
    from the image itself, of weight at most `bias` (alpha_max); a misclassified point moves back to `backward` (beta)
    of its distance. The first run starts at the image, further `restarts` at random points within half the smallest
    distance found. Cost per sample, target and step: 2 forwards, 1 backward. x is `(B, C, H, W)` in [0, 1], y and keys
    int64 `(B,)`; the result has the shape of x, and is the image itself where no run succeeds.
    """
    search = FAB(model, norm, steps=steps, alpha_max=bias, eta=overshoot, beta=backward)
    return search.run(x, y, keys, targets=targets, restarts=restarts)


class FAB:
    """The search with its settings, in the symbols of Algorithm 1."""

    def __init__(
        self,
        model: AttackModel,
        norm: str,
        *,
        steps: int = 100,
        alpha_max: float = 0.1,
        eta: float = 1.05,
        beta: float = 0.9,
    ) -> None:
        self.model, self.norm = model, norm
        self.classes = 0
        self.steps, self.alpha_max, self.eta, self.beta = steps, alpha_max, eta, beta

    def run(
        self, x: Tensor, y: Tensor, keys: Tensor, *, targets: int, restarts: int = 1, epsilon: float = 0.0
    ) -> Tensor:
        """Return x_out, the nearest misclassified images found `(B, C, H, W)`; samples stop within distance `epsilon`.

        u, `(B,)`, are the distances of x_out, infinite where nothing was found.
        """
        model = self.model
        x_out, u = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
        logits = model.logits(x)
        self.classes = logits.shape[1]
        ranked: list[Tensor | None] = list(likeliest_targets(logits, y, targets).T) if targets else [None]
        for rank, classes in enumerate(ranked):
            for restart in range(restarts):
                rows = (u > epsilon).nonzero()[:, 0]
                if not len(rows):
                    return x_out
                start = x[rows]
                if restart:
                    # If nothing was found yet: half of epsilon, or of the whole box.
                    radius = torch.where(u.isinf(), epsilon or 1.0, u)[rows]
                    start = self._random_start(start, keys[rows], radius / 2, stream=f"start:{rank}:{restart}")
                target = None if classes is None else classes[rows]
                self._run(x[rows], start, y[rows], target, x_out, u, rows, epsilon=epsilon)
        return x_out

    def _run(
        self,
        x_orig: Tensor,
        start: Tensor,
        y: Tensor,
        target: Tensor | None,
        x_out: Tensor,
        u: Tensor,
        rows: Tensor,
        *,
        epsilon: float,
    ) -> None:
        """Run once from `start` `(A, ...)`; write nearer points and their distances to `rows` of `x_out` and `u`."""
        model, x = self.model, start
        for _ in range(self.steps):
            with model.subset(rows):
                x = self._step(x_orig, x, *self._boundary(x, y, target))
                logits = model.logits(x)
            distance = distances(x - x_orig)[self.norm]
            wrong = logits.argmax(1) != y
            nearer = (wrong & (distance < u[rows])).nonzero()[:, 0]
            if len(nearer):
                with model.subset(rows[nearer]):
                    nearer = nearer[model.misclassified(logits[nearer], x[nearer], y[nearer])]
                x_out[rows[nearer]], u[rows[nearer]] = x[nearer], distance[nearer]
            rest = (u[rows] > epsilon).nonzero()[:, 0]
            if len(rest) < len(rows):
                rows, y, wrong, x_orig, x = (values[rest] for values in (rows, y, wrong, x_orig, x))
                target = None if target is None else target[rest]
                if not len(rows):
                    return
            x = torch.where(per_sample(wrong, x), x_orig + self.beta * (x - x_orig), x)

    def _boundary(self, x: Tensor, y: Tensor, target: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return f_t - f_y, `(B,)`, and its gradient; t is the target, or else the class of the nearest boundary."""
        if target is not None:
            # The derivative of the margin is exact, so this is the gradient itself, not only its direction.
            loss = TARGETED_LOSSES["margin"]
            result = self.model.gradients(x, y, loss, targets=target)
            return loss.value(result.outputs, y, target), result.gradient
        f, w = self._boundary(x, y, (y <= 0).to(torch.int64))
        for rank in range(1, self.classes - 1):
            f_next, w_next = self._boundary(x, y, rank + (y <= rank).to(torch.int64))
            nearer = self._distance(f_next, w_next) < self._distance(f, w)
            f = torch.where(nearer, f_next, f)
            w = torch.where(per_sample(nearer, w_next), w_next, w)
        return f, w

    def _distance(self, f: Tensor, w: Tensor) -> Tensor:
        return f.abs() / distances(w)[_DUAL[self.norm]].clamp(min=1e-12)

    def _step(self, x_orig: Tensor, x: Tensor, f: Tensor, w: Tensor) -> Tensor:
        """Return the next point: a step to the hyperplane f + <w, z - x> = 0, biased towards x_orig."""
        f_orig = f + (w * (x_orig - x)).flatten(1).sum(1)
        delta = to_hyperplane(x, w, f, self.norm)
        delta_orig = to_hyperplane(x_orig, w, f_orig, self.norm)
        length, length_orig = (distances(step)[self.norm].clamp(min=1e-8) for step in (delta, delta_orig))
        alpha = per_sample((length / (length + length_orig)).clamp(max=self.alpha_max).to(x.dtype), x)
        # From beyond the boundary, overshooting by eta leads back to the label's side, exactly as far as the bias makes
        # up for: the average would lie on the boundary itself, where rounding decides.
        eta = per_sample(torch.where(f > 0, 2 - self.eta, torch.full_like(f, self.eta)), x)
        z = (1 - alpha) * (x + eta * delta) + alpha * (x_orig + self.eta * delta_orig)
        return z.clamp_(0.0, 1.0)

    def _random_start(self, x: Tensor, keys: Tensor, radius: Tensor, *, stream: str) -> Tensor:
        if self.norm == "linf":
            noise = uniform(keys, x.shape[1:], stream=stream, low=-1.0, dtype=x.dtype)
        else:
            noise = normal(keys, x.shape[1:], stream=stream, dtype=x.dtype)
        factor = (radius / distances(noise)[self.norm]).to(x.dtype)
        return (x + noise * per_sample(factor, x)).clamp_(0.0, 1.0)


def to_hyperplane(x: Tensor, w: Tensor, f: Tensor, norm: str) -> Tensor:
    """Return the shortest step delta `(B, ...)` with f + <w, delta> = 0 for which x + delta stays in the box [0, 1].

    `f` is `(B,)`. Where the box does not reach the hyperplane, the step leads to the corner nearest to it. Entries
    with w = 0 do not move.
    """
    normal = w.flatten(1)
    normal = torch.where(f[:, None] > 0, -normal, normal)
    flat = x.flatten(1)
    room = torch.where(normal > 0, 1 - flat, flat) * (normal != 0)
    slope = normal.abs()
    if norm == "l1":
        size = _steepest_first(slope, room, f.abs())
    elif norm == "linf":
        size = torch.minimum(_level(slope, room, f.abs())[:, None], room)
    else:
        # Each entry moves in proportion to its slope, up to its room: the L-infinity problem with rescaled room.
        scaled_room = room / torch.where(slope > 0, slope, 1.0)
        size = torch.minimum(_level(slope.square(), scaled_room, f.abs())[:, None], scaled_room) * slope
    return (size * normal.sign()).view_as(x)


def _level(weights: Tensor, caps: Tensor, total: Tensor) -> Tensor:
    """Solve sum_i weights_i min(level, caps_i) = total for the level, `(B,)`; the largest cap where none solves it."""
    ordered, order = caps.sort(1)
    weight = weights.gather(1, order)
    filled = (weight * ordered).cumsum(1)  # by entries that have reached their cap
    weight_above = weight.flip(1).cumsum(1).flip(1) - weight
    reached = ((filled + weight_above * ordered) < total[:, None]).sum(1, keepdim=True)
    last = (reached - 1).clamp(min=0)
    base = torch.where(reached > 0, filled.gather(1, last), 0.0)[:, 0]
    rest = torch.where(reached > 0, weight_above.gather(1, last), weight.sum(1, keepdim=True))[:, 0]
    level = (total - base) / torch.where(rest > 0, rest, 1.0)
    highest = ordered[:, -1]
    return torch.where(rest > 0, torch.minimum(level, highest), highest)


def _steepest_first(slope: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """Return how far each entry moves, `(B, D)`, when the steepest move first, each up to its room, to gain `total`."""
    ordered, order = slope.sort(dim=1, descending=True, stable=True)
    gain = ordered * room.gather(1, order)
    needed = (total[:, None] - (gain.cumsum(1) - gain)).clamp(min=0.0)
    size = torch.minimum(needed, gain) / torch.where(ordered > 0, ordered, 1.0)
    return torch.zeros_like(room).scatter(1, order, size)
