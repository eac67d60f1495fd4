"""Projected gradient ascent, and restarts on the samples that are still robust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from gauntlet.core.geometry import Ball
from gauntlet.robustness.attacks.base.losses import AttackLoss, likeliest_targets
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.base.targets import nearest_targets


@dataclass(frozen=True)
class Attempt:
    """One run of an attack, on a part of its samples.

    `samples` int64 `(A,)` are indices into the attack's samples, `targets` int64 `(A,)` their target classes, None in
    an untargeted run. `loss` is targeted if there are targets. `stream` addresses the random draws of a restart and
    target: attempts that differ in their loss alone start from the same point. `last` is true for the final run: the
    evaluator judges its result, so the run itself need not.
    """

    samples: Tensor
    targets: Tensor | None
    loss: AttackLoss
    stream: str
    last: bool


Run = Callable[[Attempt], tuple[Tensor, Tensor]]
"""Runs an attempt: returns its points `(A, C, H, W)` and the indices, among the A, of the samples still robust."""


def attack_with_restarts(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    run: Run,
    *,
    norm: str,
    loss: str | Sequence[str],
    restarts: int = 1,
    targets: int | Tensor = 0,
    stream: str = "start",
    last: bool = True,
) -> tuple[Tensor, Tensor]:
    """Repeat a run `restarts` times, each time with every loss and target, on the samples that are still robust.

    Targets are the `targets` likeliest classes, without the label, on the clean images x `(B, C, H, W)` (Gowal et al.
    2019, arXiv:1910.09338), or those passed, int64 `(B, T)`. Several untargeted losses are followed by the margin to
    the class that is nearest to first order: all untargeted losses follow the likeliest other class, which may be
    farther away. `last` is true if no other attack follows. Returns the points `(B, C, H, W)`, where no run succeeded
    those of the last one or of the one that `KeptPoints` chooses, and the indices of the samples still
    robust, int64 `(A,)`.

    Raises InputError for a loss that the model does not have.
    """
    robust = torch.arange(len(x), device=x.device)
    if isinstance(targets, Tensor):
        classes: Tensor | None = targets
    else:
        classes = likeliest_targets(model.logits(x), y, targets) if targets else None
    targeted = classes is not None
    names = [loss] if isinstance(loss, str) else list(loss)
    losses = [model.loss(name, targeted=targeted) for name in names]
    ranks: Sequence[int | None] = [None] if classes is None else range(classes.shape[1])
    runs = [(attack_loss, rank) for attack_loss in losses for rank in ranks]
    if not targeted and len(losses) > 1:
        runs.append((model.loss("margin", targeted=True), 0))
    runs_left = restarts * len(runs)
    kept = KeptPoints(model, x, runs=runs_left)
    for restart in range(restarts):
        for attack_loss, rank in runs:
            runs_left -= 1
            with model.subset(robust):
                if rank is not None and classes is None:
                    nearest = nearest_targets(model, x[robust], y[robust], norm=norm, count=1)
                    classes = nearest.new_zeros(len(x), 1).index_copy_(0, robust, nearest)
                chosen = None if rank is None or classes is None else classes[robust, rank]
                name = f"{stream}:{restart}:target:{rank}" if targeted else f"{stream}:{restart}"
                attempt = Attempt(robust, chosen, attack_loss, name, last and not runs_left)
                points, still_robust = run(attempt)
                kept.keep(robust, points, y[robust])
            robust = robust[still_robust]
            if not len(robust):
                return kept.points, robust
    return kept.points, robust


class KeptPoints:
    """Points of several runs on images x `(B, C, H, W)`: the last ones, or those nearest to success.

    In a transfer no run knows whether it succeeds, so that all samples take part in all `runs`; of a random model other
    draws than those that a run saw decide. There a sample keeps the point with the smallest of `AttackModel.margins`,
    which are computed once a run if there are several.
    """

    def __init__(self, model: AttackModel, x: Tensor, *, runs: int) -> None:
        self.model, self.points, self._compares = model, x.clone(), runs > 1 and not model.keeps_last
        self._margins = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)

    def keep(self, rows: Tensor, points: Tensor, y: Tensor) -> None:
        """Keep a run's points `(A, C, H, W)` of the samples at `rows`, int64 `(A,)`, whose queries count here."""
        if not self._compares:
            self.points[rows] = points
            return
        margins = self.model.margins(points, y)
        lower = (margins < self._margins[rows]).nonzero()[:, 0]
        self.points[rows[lower]], self._margins[rows[lower]] = points[lower], margins[lower]


def gradient_ascent(
    model: AttackModel,
    ball: Ball,
    start: Tensor,
    y: Tensor,
    attempt: Attempt,
    *,
    steps: int,
    step_size: float,
    decay: float | None = None,
    full_step: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run projected gradient ascent from `start`; samples leave once they are confirmed adversarial. Returns as a Run.

    `start` and `y` belong to the attempt's samples. The forward pass that computes the gradient at x_t also checks x_t,
    so a step costs one forward and one backward per robust sample. With `full_step`, the point where the first gradient
    meets the boundary of the ball is tried too, for one forward more; the other samples' iterates do not change. The
    last point is checked only if another attempt follows. With `decay`, steps follow a momentum.
    """
    iterates = _Iterates(ball, start, y, attempt.targets, torch.zeros_like(start) if decay is not None else None)
    active = ActiveSet(model, start)
    for step in range(steps):
        with active.queries():
            result = model.gradients(iterates.x, iterates.y, attempt.loss, targets=iterates.targets)
            adversarial = active.adversarial(result.logits, iterates.x, iterates.y)
        gradient = iterates.select(active.remove(adversarial, iterates.x), result.gradient)
        if full_step and step == 0 and len(active) and not model.transfers:
            x_boundary = iterates.ball.full_step(gradient)
            with active.queries():
                adversarial = active.adversarial(model.logits(x_boundary), x_boundary, iterates.y)
            gradient = iterates.select(active.remove(adversarial, x_boundary), gradient)
        if not len(active):
            break
        if decay is not None:
            gradient = iterates.accumulate(gradient, decay)
        iterates.x = iterates.ball.project(iterates.x + step_size * iterates.ball.direction(iterates.x, gradient))
    if len(active) and not (attempt.last or model.transfers):
        iterates.select(active.compact(), iterates.x)
        with active.queries():
            adversarial = model.confirm(iterates.x, iterates.y, beyond_chance=True)
            iterates.select(active.remove(adversarial, iterates.x), iterates.x)
    return active.finish(iterates.x)


def idle_share(device: torch.device) -> float:
    """Return the share of finished samples among those computed up to which they are not removed.

    On a GPU every other shape of a batch costs a choice of kernels, and memory; on a CPU finished samples cost passes.
    """
    return 0.25 if device.type == "cuda" else 0.0


class ActiveSet:
    """Samples of a run that are not adversarial yet, and those that are but still take part in its batches.

    Rows of the run's tensors are `samples` int64 `(A,)`, indices among all B. Finished samples are removed from them
    once they are more than `idle_share`; until then no query counts for them, and their results stay as they are.
    """

    def __init__(self, model: AttackModel, start: Tensor) -> None:
        self.model, self.x_adv = model, start.clone()
        self.samples = torch.arange(len(start), device=start.device)
        self._unfinished: Tensor | None = None  # bool (A,); None: all
        self._idle_share = idle_share(start.device)

    def __len__(self) -> int:
        return len(self.samples)

    def queries(self) -> AbstractContextManager[None]:
        """Count the queries inside for the unfinished samples."""
        return self.model.subset(self.samples, self._unfinished)

    def adversarial(self, logits: Tensor | None, x: Tensor, y: Tensor) -> Tensor | None:
        """Return which unfinished samples are confirmed adversarial at x `(A, C, H, W)`; as `is_adversarial`."""
        return self.model.is_adversarial(logits, x, y, among=self._unfinished)

    def remove(self, adversarial: Tensor | None, x: Tensor) -> Tensor | None:
        """Store the points x `(A, C, H, W)` of adversarial samples, bool `(A,)`; return the rows to keep if not all.

        The caller selects these rows, int64, in its tensors.
        """
        if adversarial is None:
            return None
        done = adversarial.nonzero()[:, 0]
        if not len(done):
            return None
        self.x_adv[self.samples[done]] = x[done]
        self._unfinished = ~adversarial if self._unfinished is None else self._unfinished & ~adversarial
        rest = self._unfinished.nonzero()[:, 0]
        if len(rest) and len(self) - len(rest) <= self._idle_share * len(self):
            return None
        return self._keep(rest)

    def compact(self) -> Tensor | None:
        """Return the rows to keep, int64, if there are finished samples among them."""
        return None if self._unfinished is None else self._keep(self._unfinished.nonzero()[:, 0])

    def finish(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the result of a Run, with the points x `(A, C, H, W)` for the unfinished samples."""
        rows = self.compact()
        self.x_adv[self.samples] = x if rows is None else x[rows]
        return self.x_adv, self.samples

    def _keep(self, rows: Tensor) -> Tensor:
        self.samples, self._unfinished = self.samples[rows], None
        return rows


class _Iterates:
    """Iterates x of the samples computed, with what belongs to them."""

    def __init__(self, ball: Ball, x: Tensor, y: Tensor, targets: Tensor | None, momentum: Tensor | None) -> None:
        self.ball, self.x, self.y, self.targets, self.momentum = ball, x, y, targets, momentum

    def select(self, rows: Tensor | None, gradient: Tensor) -> Tensor:
        """Keep some rows, int64; None: all. Return their gradients."""
        if rows is None:
            return gradient
        self.x, self.y, self.ball = self.x[rows], self.y[rows], self.ball.select(rows)
        self.targets = None if self.targets is None else self.targets[rows]
        self.momentum = None if self.momentum is None else self.momentum[rows]
        return gradient[rows]

    def accumulate(self, gradient: Tensor, decay: float) -> Tensor:
        """Return the momentum g := decay g + gradient / ||gradient||_1."""
        previous = torch.zeros_like(gradient) if self.momentum is None else self.momentum
        self.momentum = decay * previous + _l1_normalized(gradient)
        return self.momentum


def pgd_run(
    model: AttackModel,
    x: Tensor,
    y: Tensor,
    *,
    norm: str,
    epsilon: float,
    keys: Tensor,
    steps: int,
    step_size: float | None,
) -> Run:
    """Build the run that PGD repeats: gradient ascent from a random point of the ball, with a full step first.

    `step_size` defaults to 2.5 epsilon / steps.
    """
    size = 2.5 * epsilon / steps if step_size is None else step_size

    def run(attempt: Attempt) -> tuple[Tensor, Tensor]:
        samples = attempt.samples
        ball = Ball(x[samples], epsilon, norm)
        start = ball.random_point(keys[samples], stream=attempt.stream)
        return gradient_ascent(model, ball, start, y[samples], attempt, steps=steps, step_size=size, full_step=True)

    return run


def _l1_normalized(gradient: Tensor) -> Tensor:
    size = gradient.flatten(1).abs()
    # Two divisions: the sum of tiny entries may underflow, the largest of them does not.
    largest = size.amax(1, keepdim=True)
    scaled = gradient.flatten(1) / torch.where(largest > 0, largest, 1.0)
    return (scaled / scaled.abs().sum(1, keepdim=True).clamp(min=1.0)).reshape(gradient.shape)
