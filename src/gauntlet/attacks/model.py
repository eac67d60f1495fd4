"""The model as an attack sees it: a fast frozen copy that counts its uses, beside the plain model that judges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gauntlet.attacks.objectives import Objective
from gauntlet.errors import InputError, nearest
from gauntlet.subject import Judge, copied, device_of, halved

Precision = Literal["auto", "float32", "bfloat16", "float64"]


class AttackModel:
    """A classifier of images in [0, 1], offered to attacks.

    Attacks query a copy: parameters frozen, channels-last, in `precision`. Success is judged on `network` as it was
    given, in float32 (in float64 when `precision` is float64), by `judge` and `confirm`.

    Every forward and backward of the copy is counted per sample by hooks. A forward of b images is booked on the rows
    named by the innermost `rows(...)`; with r rows and b = n * r, each row is booked n times, sample-major or not.

    `surrogate` names another differentiable view that the network offers in ``network.surrogates``: `__call__` and the
    gradients then come from that view, while `logits`, `judge` and `confirm` still speak for the model itself.

    Raises InputError for an unknown surrogate and for a network that cannot be copied.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        surrogate: str | None = None,
        batch_size: int = 256,
    ) -> None:
        self.device = torch.device(device) if device is not None else device_of(network)
        self.dtype = torch.float64 if precision == "float64" else torch.float32
        self.autocast = precision == "bfloat16"
        self.batch_size = batch_size
        self._judge = Judge(network, device=self.device, dtype=self.dtype, batch_size=batch_size)
        self.network = copied(network).to(self.device, self.dtype).eval().requires_grad_(False)
        self.network.to(memory_format=torch.channels_last)
        self.surrogate = None if surrogate == "logits" else surrogate
        self._view = self.network if self.surrogate is None else _surrogate(self.network, self.surrogate)
        self._inside = False
        self.forwards = self.backwards = torch.zeros(0, dtype=torch.int64, device=self.device)
        self._rows = self.forwards
        self.network.register_forward_hook(self._after_forward)

    def __call__(self, x: Tensor) -> Tensor:
        """Give differentiable outputs `(B, K)` for x `(B, C, H, W)`, in one batch: the surrogate's, if there is one."""
        if self.surrogate is None:
            return self._forward(x)
        x = self._laid_out(x)
        self._inside = True
        try:
            with self._fast():
                output: Tensor = self._view(x)
        finally:
            self._inside = False
        self._after_forward(None, (x,), output)
        return output.to(self.dtype)

    def logits(self, x: Tensor) -> Tensor:
        """Give the model's own logits `(B, K)` without gradient, in batches."""
        return torch.cat([self._logits(x[part], part) for part in self.parts(len(x))])

    def gradients(self, x: Tensor, y: Tensor, objective: Objective) -> tuple[Tensor, Tensor]:
        """Give the model's logits `(B, K)` and the gradient of the objective with respect to x, `(B, C, H, W)`.

        One forward and one backward per sample, in batches; the logits are those of the same forward pass.
        With a surrogate, the gradient is the surrogate's and the logits cost a forward of their own.
        """
        logits, gradients = [], []
        for part in self.parts(len(x)):
            with self.rows(self._rows[part]), torch.enable_grad():
                leaf = x[part].detach().requires_grad_(True)
                output = self(leaf)
                (gradient,) = torch.autograd.grad(output, leaf, objective(output.detach(), y[part]))
            gradients.append(gradient)
            logits.append(output.detach() if self.surrogate is None else self._logits(x[part], part))
        return (logits[0], gradients[0]) if len(logits) == 1 else (torch.cat(logits), torch.cat(gradients))

    def judge(self, x: Tensor) -> Tensor:
        """Give the logits `(B, K)` of the plain model, without gradient, in batches; not counted."""
        return self._judge.logits(x)

    def confirm(self, x: Tensor, y: Tensor) -> Tensor:
        """Say which images the plain model gives another class than `y`: bool `(B,)`; counted as a forward each."""
        logits = self.judge(x)
        self._book(self.forwards, self._rows, len(x))
        return (logits.argmax(1) != y) & logits.isfinite().all(1)

    def fooled(self, logits: Tensor, x: Tensor, y: Tensor) -> Tensor | None:
        """Say which of x `(B, ...)` fool the model, or None for none.

        The copy's logits name the candidates; only these cost a confirming forward. One host synchronisation.
        """
        candidates = (logits.argmax(1) != y).nonzero()[:, 0]
        if not len(candidates):
            return None
        with self.rows(self._rows[candidates]):
            confirmed = self.confirm(x[candidates], y[candidates])
        return torch.zeros(len(x), dtype=torch.bool, device=x.device).index_put_((candidates,), confirmed)

    def start_counting(self, samples: int) -> None:
        """Begin a batch of so many samples: counts at zero, row i for sample i."""
        self.forwards = torch.zeros(samples, dtype=torch.int64, device=self.device)
        self.backwards = torch.zeros_like(self.forwards)
        self._rows = torch.arange(samples, device=self.device)

    @property
    def current_rows(self) -> Tensor:
        """The samples of the current batch that uses are booked on: int64 `(A,)`."""
        return self._rows

    @contextmanager
    def rows(self, rows: Tensor) -> Iterator[None]:
        """Book the uses inside on these samples of the current batch: int64 `(A,)`."""
        outer, self._rows = self._rows, rows
        try:
            yield
        finally:
            self._rows = outer

    def parts(self, samples: int) -> list[slice]:
        """Cut `samples` into batches."""
        size = self.batch_size
        return [slice(start, min(start + size, samples)) for start in range(0, max(samples, 1), size)]

    def halve(self) -> None:
        """Halve the batch size after memory ran out. Raises GauntletError when a single image does not fit."""
        self.batch_size = halved(self.batch_size, self.device)

    def _logits(self, x: Tensor, part: slice) -> Tensor:
        with torch.no_grad(), self.rows(self._rows[part]):
            return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        with self._fast():
            output: Tensor = self.network(self._laid_out(x))
        return output.to(self.dtype)

    def _laid_out(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    def _fast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()

    def _after_forward(self, _module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._inside:
            return
        rows, samples = self._rows, len(inputs[0])
        self._book(self.forwards, rows, samples)
        if isinstance(output, Tensor) and output.requires_grad:
            backwards = self.backwards
            output.register_hook(lambda _gradient: self._book(backwards, rows, samples))

    @staticmethod
    def _book(counts: Tensor, rows: Tensor, samples: int) -> None:
        if len(rows):
            # An attack that drops samples by itself is booked on all of its rows: never too little.
            counts.index_add_(0, rows, torch.full_like(rows, -(-samples // len(rows))))


def _surrogate(network: nn.Module, name: str) -> Any:
    offered = getattr(network, "surrogates", {})
    if name not in offered:
        raise InputError(f"the model offers no surrogate '{name}'", remedy=nearest(name, offered))
    return offered[name]
