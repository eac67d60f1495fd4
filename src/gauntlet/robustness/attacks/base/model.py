"""The model as an attack sees it: a fast frozen copy that counts its uses, beside the plain model that judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import InputError, nearest
from gauntlet.core.randomness import derive_seed
from gauntlet.robustness.attacks.base.objectives import Objective
from gauntlet.robustness.attacks.base.query_counts import Counts
from gauntlet.robustness.judge import Judge, class_probabilities, copied, device_of, mean_logits, seeded

Precision = Literal["auto", "float32", "bfloat16", "float64"]

View = Callable[[Tensor], Tensor]


class Slope(NamedTuple):
    """What one forward and backward say at a batch of points.

    `outputs` `(B, K)` are those that the gradient `(B, C, H, W)` was taken of; `logits` `(B, K)` are the model's own,
    None where the model may not be asked (transfer).
    """

    outputs: Tensor
    logits: Tensor | None
    gradient: Tensor


class AttackModel:
    """A classifier of images in [0, 1], offered to attacks.

    Attacks query a copy: parameters frozen, channels-last, in `precision`. Success is judged on `network` as it was
    given, in float32 (in float64 when `precision` is float64), by `judge` and `confirm`.

    Every forward and backward of the copy is counted per sample by hooks, and every gradient at an image is looked at:
    one that is zero throughout and one that is not finite are counted, the latter's bad entries then taken as zero.
    A forward of b images is booked on the rows named by the innermost `rows(...)`; with r rows and b = n * r, each row
    is booked n times, sample-major or not.

    `surrogate` names another differentiable view that the network offers in ``network.surrogates``: `__call__` and the
    gradients then come from that view, while `logits`, `judge` and `confirm` still speak for the model itself.
    ``adaptive`` stands for the first of ``network.adaptive``.

    `sources` are other networks: attacks then see only these (several: the logarithm of their mean probability), and
    the model itself only judges what they return (transfer).

    `draws` above one is for a model that is random: outputs and gradients are means over so many passes
    (expectation over transformation, Athalye et al. 2018, arXiv:1802.00420), and so is what judges.

    Raises InputError for an unknown surrogate and for a network that cannot be copied.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        surrogate: str | None = None,
        sources: Sequence[nn.Module] = (),
        draws: int = 1,
        batch_size: int = 256,
    ) -> None:
        self.device = torch.device(device) if device is not None else device_of(network)
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.autocast = precision == "bfloat16"
        self.draws, self._passes, self._counted_here = draws, 0, False
        self.memory = BatchSize(batch_size, self.device)
        self._judge = Judge(network, device=self.device, dtype=self.dtype, batch_size=batch_size, draws=draws)
        self._queried = [self._fast_copy(one) for one in sources or (network,)]
        self.network = self._queried[0]
        self.transfers = bool(sources)
        self.counts = Counts(self.device)
        self._judged: list[tuple[Tensor, Tensor, Tensor]] = []
        self.surrogate: str | None = None
        self._view: View = self._queried[0]
        self._choose(surrogate)

    def __call__(self, x: Tensor) -> Tensor:
        """Give differentiable outputs `(B, K)` for x `(B, C, H, W)`, in one batch: the surrogate's, if there is one."""
        return self._ask(self._view, x)

    def logits(self, x: Tensor) -> Tensor:
        """Give the logits `(B, K)` of the model itself (in a transfer: of its sources) without gradient, in batches."""
        return torch.cat(list(self.memory.parts(len(x), lambda part: self._logits(x[part], part), ledger=self.counts)))

    def gradients(self, x: Tensor, y: Tensor, objective: Objective, *, targets: Tensor | None = None) -> Slope:
        """Give outputs, logits and the gradient of the objective with respect to x `(B, C, H, W)`.

        y and targets are int64 `(B,)`. One forward and one backward per sample and draw, in batches; the logits are
        those of the same forward pass. With a surrogate, the gradient is the surrogate's and the logits cost a forward
        of their own. Raises InputError when the objective needs more classes than there are.
        """
        aims = y if targets is None else targets

        def slope(part: slice) -> Slope:
            with self.counts.on(self.counts.rows[part]), torch.enable_grad():
                leaf = x[part].detach().requires_grad_(True)
                output = self(leaf)
                objective.check(output)
                derivative = objective.derivative(output.detach(), y[part], aims[part])
                (gradient,) = torch.autograd.grad(output, leaf, derivative)
            outputs = output.detach()
            if self.transfers:
                return Slope(outputs, None, gradient)
            logits = outputs if self.surrogate is None else self._logits(x[part], part)
            return Slope(outputs, logits, gradient)

        found = list(self.memory.parts(len(x), slope, ledger=self.counts))
        if len(found) == 1:
            return found[0]
        outputs, logits, gradient = zip(*found, strict=True)
        return Slope(torch.cat(outputs), None if self.transfers else torch.cat(logits), torch.cat(gradient))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give what the model (in a transfer: its source) holds each class to be, `(B, K)`, for what `logits` gave."""
        single = len(self._queried) == 1 and self.draws == 1
        return class_probabilities(self.network if single else None, logits)

    def confidence(self, logits: Tensor) -> Tensor:
        """Say how sure the plain model is of its answer, `(B,)` in [0, 1], for what `judge` or `verdict` gave."""
        return self._judge.confidence(logits)

    def judge(self, x: Tensor) -> Tensor:
        """Give the logits `(B, K)` of the plain model, without gradient, in batches; not counted."""
        return self._judge.logits(x)

    def confirm(self, x: Tensor, y: Tensor) -> Tensor:
        """Say which images the plain model gives another class than `y`: bool `(B,)`; counted as a forward each."""
        logits = self.judge(x)
        self.counts.forward(len(x), times=self.draws)
        if len(self.counts.rows) == len(x):
            self._judged.append((self.counts.rows, x.clone(), logits))
        return (logits.argmax(1) != y) & logits.isfinite().all(1)

    def verdict(self, x: Tensor) -> Tensor:
        """Give the plain model's logits `(B, K)` at what an attack returned for the current batch.

        An image that was judged already during the attack, the same to the last bit, is not judged again.
        """
        logits: Tensor | None = None
        known = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for rows, points, found in self._judged:
            same = (x[rows] == points).flatten(1).all(1)
            logits = found.new_empty(len(x), found.shape[1]) if logits is None else logits
            logits[rows[same]], known[rows[same]] = found[same], True
        unknown = (~known).nonzero()[:, 0]
        if logits is None or len(unknown) == len(x):
            return self.judge(x)
        if len(unknown):
            logits[unknown] = self.judge(x[unknown])
        return logits

    def fooled(self, logits: Tensor | None, x: Tensor, y: Tensor) -> Tensor | None:
        """Say which of x `(B, ...)` fool the model, or None for none: always so in a transfer, where none is asked.

        The copy's logits name the candidates; only these cost a confirming forward. One host synchronisation.
        """
        if logits is None or self.transfers:
            return None
        candidates = (logits.argmax(1) != y).nonzero()[:, 0]
        if not len(candidates):
            return None
        with self.rows(self.counts.rows[candidates]):
            confirmed = self.confirm(x[candidates], y[candidates])
        return torch.zeros(len(x), dtype=torch.bool, device=x.device).index_put_((candidates,), confirmed)

    @property
    def adaptive(self) -> Sequence[tuple[str, str]]:
        """The pairs of surrogate and loss that fit the network's kind of output, best first."""
        return getattr(self.network, "adaptive", (("logits", "margin"),))

    @contextmanager
    def through(self, surrogate: str) -> Iterator[None]:
        """Take outputs and gradients from another view inside. Raises InputError for an unknown one."""
        outer, view = self.surrogate, self._view
        self._choose(surrogate)
        try:
            yield
        finally:
            self.surrogate, self._view = outer, view

    def start_counting(self, samples: int) -> None:
        """Begin a batch of so many samples: counts at zero, row i for sample i."""
        self.counts.start(samples)
        self._passes, self._judged = 0, []

    @property
    def batch_size(self) -> int:
        """Samples that go through the model at once, at present."""
        return self.memory.current

    @property
    def current_rows(self) -> Tensor:
        """The samples of the current batch that uses are booked on: int64 `(A,)`."""
        return self.counts.rows

    @contextmanager
    def rows(self, rows: Tensor) -> Iterator[None]:
        """Book the uses inside on these samples of the current batch: int64 `(A,)`."""
        with self.counts.on(rows):
            yield

    def _choose(self, surrogate: str | None) -> None:
        if surrogate == "adaptive":
            surrogate = self.adaptive[0][0]
        self.surrogate = None if surrogate in (None, "logits") else surrogate
        views = self._queried if self.surrogate is None else [_surrogate(one, self.surrogate) for one in self._queried]
        self._view = views[0] if len(views) == 1 else lambda x: mean_logits([view(x) for view in views])

    def _logits(self, x: Tensor, part: slice) -> Tensor:
        queried = self._queried
        view: View = queried[0] if len(queried) == 1 else lambda x: mean_logits([one(x) for one in queried])
        with torch.no_grad(), self.rows(self.counts.rows[part]):
            return self._ask(view, x)

    def _ask(self, view: View, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self.counts.watch())
        if self.draws == 1:
            return self._once(view, x)
        outputs = []
        for _ in range(self.draws):
            self._passes += 1
            with seeded(derive_seed("attack", "draw", self._passes), self.device):
                outputs.append(self._once(view, x))
        return mean_logits(outputs)

    def _once(self, view: View, x: Tensor) -> Tensor:
        fast: Any = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        # A whole network is counted by its hook, whoever calls it; a view goes around the network's own forward.
        self._counted_here = view is self._view and self.surrogate is not None
        try:
            with fast:
                output = view(x).to(self.dtype)
        finally:
            counted_here, self._counted_here = self._counted_here, False
        if counted_here:
            self.counts.passed(len(x), output)
        return output

    def _after_forward(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not self._counted_here:
            self.counts.passed(len(inputs[0]), output)

    def _fast_copy(self, network: nn.Module) -> nn.Module:
        copy = copied(network).to(self.device, self.dtype).eval().requires_grad_(False)
        copy.to(memory_format=torch.channels_last)
        copy.register_forward_hook(self._after_forward)
        return copy


def _surrogate(network: nn.Module, name: str) -> View:
    offered = getattr(network, "surrogates", {})
    if name not in offered:
        raise InputError(f"the model offers no surrogate '{name}'", remedy=nearest(name, offered))
    view: View = offered[name]
    return view


def misclassified(model: AttackModel, logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Say which images x `(B, C, H, W)` fool the model, bool `(B,)`; in a transfer, which fool the sources.

    `logits` `(B, K)` are those of `model.logits` at x; unlike `model.fooled`, this always answers.
    """
    if model.transfers:
        return (logits.argmax(1) != y) & logits.isfinite().all(1)
    fooled = model.fooled(logits, x, y)
    return torch.zeros(len(x), dtype=torch.bool, device=x.device) if fooled is None else fooled
