"""Puts one model through the probes: what stock attacks see, and whether the package's own attacks are at their end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball
from gauntlet.core.randomness import sample_keys
from gauntlet.learning.data.splits import sample_hashes
from gauntlet.registry import Spec
from gauntlet.robustness.diagnostics.measurements import Measurement, inapplicable, measurement_table, share
from gauntlet.robustness.diagnostics.plain_pgd import (
    Trace,
    View,
    instability,
    plain_gradients,
    silent_outputs,
    still_moving,
    stock_attack,
)
from gauntlet.robustness.evaluation import AttackSettings, evaluate
from gauntlet.robustness.judge import CellIdentity, Judge, copy_network, device_of
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES, check_eval_mode, check_images, check_logits

NORMS = ("linf", "l2")
"""The norms that probes work in."""

MORE_STEPS, MORE_RESTARTS = 4, 4
_NEIGHBOURS = 20
_MOVED = 0.05


def probe(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilons: Mapping[str, Sequence[float]],
    samples: int = 100,
    steps: int = 20,
    identity: CellIdentity | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 256,
) -> pa.Table:
    """Probe a model on the first `samples` images that it classifies correctly; gives rows of MEASUREMENT_SCHEMA.

    Images are `(N, C, H, W)` in [0, 1], labels integers `(N,)`. `epsilons` are the budgets in use per norm, ascending,
    in pixel units; those of linf and l2 are probed, at the middle one where one has to do. `steps` are those of each
    attack. The rows depend on images, labels, model and the identity's seed, not on `batch_size` beyond rounding.

    Raises InputError when model or images cannot be used.
    Source: Pintor et al. 2022, arXiv:2106.09947; Carlini et al. 2019, arXiv:1902.06705.
    """
    check_images(images, labels)
    check_eval_mode(network)
    place = torch.device(device) if device is not None else device_of(network)
    judge = Judge(network, device=place, batch_size=batch_size)
    check_logits(judge, images[:PREFLIGHT_IMAGES], labels)
    whose = identity or CellIdentity()
    chosen = _first_correct(judge, images, labels, samples)
    subject = _Subject.of(network, images[chosen], labels[chosen], chosen, whose, place, judge.memory.current)
    rows = _gradients(subject) if len(chosen) else []
    for norm in NORMS:
        if norm in epsilons and len(chosen):
            rows += _in_norm(subject, norm, sorted(epsilons[norm]), steps)
    return measurement_table(rows, experiment=whose.experiment, variant=whose.variant, seed=whose.seed)


@dataclass
class _Subject:
    """A frozen copy of the model, and the samples it is probed on; `index` are their positions in the split."""

    network: nn.Module
    x: Tensor
    y: Tensor
    index: list[int]
    keys: Tensor
    identity: CellIdentity
    memory: BatchSize

    @classmethod
    def of(
        cls,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        index: list[int],
        identity: CellIdentity,
        device: torch.device,
        batch_size: int,
    ) -> _Subject:
        frozen = copy_network(network).to(device, torch.float32).requires_grad_(False)
        keys = sample_keys(identity.seed, "probe", sample_hashes(images.to(torch.float32)), device=device)
        x, y = images.to(device, torch.float32), labels.to(device, torch.int64)
        return cls(frozen, x, y, index, keys, identity, BatchSize(batch_size, device))

    @property
    def surrogates(self) -> dict[str, View]:
        """The views that the model offers beside its own logits."""
        return {name: view for name, view in getattr(self.network, "surrogates", {}).items() if name != "logits"}

    def gather(self, measure: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
        """Measure `(x, y, keys)` in batches, which are halved when memory runs out, and join the results."""
        parts = self.memory.parts(len(self.x), lambda part: measure(self.x[part], self.y[part], self.keys[part]))
        found = list(parts)
        return [torch.cat(columns) for columns in zip(*found, strict=True)]

    def share(self, check: str, norm: str | None, concerned: Tensor, evidence: str) -> Measurement:
        """Measure on how many samples something is so: bool `(B,)`."""
        return share(
            check, norm, [self.index[row] for row in concerned.nonzero()[:, 0].tolist()], len(self.y), evidence
        )

    def stock(self, norm: str, epsilon: float, steps: int, view: View | None = None) -> Trace:
        """Run the stock attack on all samples."""

        def attack(x: Tensor, y: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
            found = stock_attack(self.network, x, y, norm=norm, epsilon=epsilon, steps=steps, keys=keys, view=view)
            return found.margins.T, found.fooled.T, found.labels, found.own

        margins, fooled, labels, own = self.gather(attack)
        return Trace(margins.T, fooled.T, labels, own)

    def pgd(self, norm: str, epsilon: float, rows: Tensor, *, steps: int, restarts: int = 1) -> Tensor:
        """Run the package's own PGD on some samples: bool `(B,)`, true where it fooled one of `rows` (bool `(B,)`).

        Raises InputError where the evaluator refuses the model, whose gradients are then of no use.
        """
        fooled = torch.zeros_like(rows)
        left = rows.nonzero()[:, 0]
        if not len(left):
            return fooled
        spec = Spec("pgd", {"steps": steps, "restarts": restarts})
        table = evaluate(
            self.network,
            self.x[left],
            self.y[left],
            AttackSettings("pgd", spec, norm, (epsilon,)),
            identity=self.identity,
            device=self.x.device,
            precision="float32",
            batch_size=self.memory.current,
            keep_examples=0,
        ).rows
        fooled[left] = torch.tensor([one == "adversarial" for one in table["status"].to_pylist()], device=fooled.device)
        return fooled


def _first_correct(judge: Judge, images: Tensor, labels: Tensor, wanted: int) -> list[int]:
    """List the first samples that the model classifies correctly, looking no farther than need be."""
    found: list[int] = []
    size = judge.memory.size
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        right = judge.logits(images[part]).argmax(1).cpu() == labels[part].cpu()
        found += (start + right.nonzero()[:, 0]).tolist()
        if len(found) >= wanted:
            break
    return found[:wanted]


def _gradients(subject: _Subject) -> list[Measurement]:
    """Look at the gradients at the images themselves."""
    view = getattr(subject.network, "outputs", subject.network)

    def measure(x: Tensor, y: Tensor, _keys: Tensor) -> tuple[Tensor, ...]:
        _, gradient = plain_gradients(subject.network, x, y)
        flat = gradient.flatten(1)
        return flat.isfinite().all(1), flat.any(1), silent_outputs(view, x)

    finite, nonzero, silent = subject.gather(measure)
    mean = float(silent.float().mean())
    return [
        subject.share("zero_gradients", None, ~nonzero, "the gradient of the plain cross-entropy is exactly zero"),
        subject.share("nonfinite_gradients", None, ~finite, "the gradient of the plain cross-entropy is not finite"),
        subject.share(
            "saturated_outputs",
            None,
            silent.any(1),
            f"an output of the network has a gradient of exactly zero ({100 * mean:.1f} % of all outputs have)",
        ),
    ]


def _in_norm(subject: _Subject, norm: str, grid: Sequence[float], steps: int) -> list[Measurement]:
    epsilon = grid[(len(grid) - 1) // 2]
    trace = subject.stock(norm, epsilon, steps)
    return [
        *_path(subject, norm, epsilon, trace, steps),
        *_strength(subject, norm, epsilon, steps),
        *_surrogates(subject, norm, grid, epsilon, trace, steps),
    ]


def _path(subject: _Subject, norm: str, epsilon: float, trace: Trace, steps: int) -> Iterator[Measurement]:
    """Look at the way that the stock attack took, and at the surface it walked on."""
    held = ~trace.fooled[-1]
    attack = f"plain PGD with {steps} steps at ε = {epsilon:g}"
    yield subject.share(
        "silent_success", norm, held & trace.fooled.any(0), f"{attack} passed an adversarial point and returned another"
    )
    yield subject.share(
        "incomplete_optimisation",
        norm,
        held & (still_moving(trace.margins) > _MOVED),
        f"{attack} failed while its best margin still fell in the last quarter, by over {_MOVED:g} of its range",
    )

    def measure(x: Tensor, y: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        near = Ball(x, epsilon / 10, norm)
        points: Callable[[int], Tensor] = lambda draw: near.random_point(keys, stream=f"probe:near:{draw}")  # noqa: E731
        return (instability(subject.network, x, y, points, _NEIGHBOURS),)

    (unstable,) = subject.gather(measure)
    mean = float(unstable.double().mean())
    order = unstable.argsort(descending=True)[:10].tolist()
    yield Measurement(
        "unstable_predictions",
        norm,
        mean,
        len(subject.y),
        f"the margin changes by {100 * mean:.1f} % on average over {_NEIGHBOURS} random points within ε / 10 ="
        f" {epsilon / 10:g}, over {len(subject.y)} samples",
        tuple(sorted(subject.index[row] for row in order)),
    )


def _strength(subject: _Subject, norm: str, epsilon: float, steps: int) -> Iterator[Measurement]:
    """Ask whether the package's own PGD, on which the reported numbers rest, is at its end."""
    everyone = torch.ones_like(subject.y, dtype=torch.bool)
    unbounded = 1.0 if norm == "linf" else math.sqrt(subject.x[0].numel())
    try:
        reached = subject.pgd(norm, unbounded, everyone, steps=steps)
        broken = subject.pgd(norm, epsilon, everyone, steps=steps)
        longer = subject.pgd(norm, epsilon, ~broken, steps=MORE_STEPS * steps)
        again = subject.pgd(norm, epsilon, ~broken, steps=steps, restarts=MORE_RESTARTS)
    except InputError as error:
        refused = f"PGD cannot run: {error}"
        yield subject.share("unbounded_budget", norm, everyone, refused)
        yield from (inapplicable(check, norm, refused) for check in ("more_steps", "more_restarts"))
        return
    yield subject.share(
        "unbounded_budget",
        norm,
        ~reached,
        f"PGD with {steps} steps does not fool the model although ε = {unbounded:.3g} allows any image",
    )
    first = f"{int(broken.sum())} fall to {steps} steps at ε = {epsilon:g}"
    yield subject.share("more_steps", norm, longer, f"PGD needs {MORE_STEPS * steps} steps; {first}")
    yield subject.share(
        "more_restarts", norm, again, f"PGD needs up to {MORE_RESTARTS} random starts; {first} from one"
    )


def _surrogates(
    subject: _Subject, norm: str, grid: Sequence[float], epsilon: float, stock: Trace, steps: int
) -> Iterator[Measurement]:
    """Hold gradients through the views that the model offers against those of its own logits, at the same cost."""
    if not subject.surrogates:
        for check in ("surrogate_beats_stock", "non_transferability"):
            yield inapplicable(check, norm, "the model offers no other view of itself")
        return
    most: Measurement | None = None
    astray: Measurement | None = None
    single = {budget: subject.stock(norm, budget, 1) for budget in grid}
    for name, view in subject.surrogates.items():
        trace = subject.stock(norm, epsilon, steps, view)
        pairs = [(epsilon, steps, trace, stock)]
        pairs += [(budget, 1, subject.stock(norm, budget, 1, view), single[budget]) for budget in grid]
        for budget, count, adaptive, plain in pairs:
            found = subject.share(
                "surrogate_beats_stock",
                norm,
                adaptive.fooled[-1] & ~plain.fooled[-1],
                f"{_steps(count)} through {name} {'fools' if count == 1 else 'fool'} the model at ε = {budget:g},"
                f" the same through its logits {'does' if count == 1 else 'do'} not"
                f" ({int((plain.fooled[-1] & ~adaptive.fooled[-1]).sum())} the other way round)",
            )
            most = found if most is None else max(most, found, key=_value)
        missed = subject.share(
            "non_transferability",
            norm,
            trace.labels != trace.own,
            f"what {_steps(steps)} through {name} end at, at ε = {epsilon:g}, is of another class to {name} than to the"
            " model",
        )
        astray = missed if astray is None else max(astray, missed, key=_value)
    yield from (row for row in (most, astray) if row is not None)


def _value(row: Measurement) -> float:
    return row.value or 0.0


def _steps(count: int) -> str:
    return "one plain gradient step" if count == 1 else f"{count} plain gradient steps"
