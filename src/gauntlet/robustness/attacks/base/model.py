"""The model under attack: an accelerated copy that attacks query, and the judge that decides success."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import Float32
from gauntlet.robustness.attacks.base.accelerated import AcceleratedModel
from gauntlet.robustness.judge import Judge, logit_margin
from gauntlet.robustness.networks import device_of

Precision = Literal["auto", "float32", "bfloat16", "float64"]
Passes = Literal["float32", "tf32", "bfloat16", "float64"]
"""Precision that an attack's passes compute in; products of ``bfloat16`` and ``tf32`` passes may use TF32."""

OUTWARD = (1e-4, 1e-3, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
"""Shares of the perturbation by which a nearest success is moved outward, one after the other, while it is refused."""


class AttackModel(AcceleratedModel):
    """A classifier of images in [0, 1], offered to attacks.

    Attacks query an accelerated copy in `precision`; `judge` decides success on `network` as given, in IEEE float32 (in
    float64 when `precision` is float64). An attack runs inside ``float32_arithmetic(model.arithmetic)``.

    With `sources`, other networks, attacks query only these (transfer); several form an ensemble. The model itself then
    only judges the images that attacks return. For `surrogate` and `draws` see AcceleratedModel. A `judge` of `network`
    that exists is used if it has the dtype.

    Raises InputError for an unknown surrogate and for a network that cannot be copied.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str | torch.device | None = None,
        precision: Passes = "float32",
        surrogate: str | None = None,
        sources: Sequence[nn.Module] = (),
        draws: int = 1,
        batch_size: int = 256,
        judge: Judge | None = None,
    ) -> None:
        run_device = torch.device(device) if device is not None else device_of(network)
        dtype = torch.float64 if precision == "float64" else torch.float32
        if judge is None or judge.dtype != dtype:
            judge = Judge(network, device=run_device, dtype=dtype, batch_size=batch_size, draws=draws)
        self.judge = judge
        self.arithmetic: Float32 = "tf32" if precision in ("tf32", "bfloat16") else "ieee"
        self._confirmed: list[tuple[Tensor, Tensor, Tensor]] = []
        super().__init__(
            sources or (network,),
            device=run_device,
            dtype=dtype,
            autocast=precision == "bfloat16",
            transfers=bool(sources),
            surrogate=surrogate,
            draws=draws,
            batch_size=batch_size,
        )

    def start_counting(self, samples: int) -> None:
        """Set query counts to zero for a new batch of this size, and forget the images confirmed in the last one."""
        self.counts.start(samples)
        self._confirmed = []

    def confirm(self, x: Tensor, y: Tensor, *, beyond_chance: bool = False) -> Tensor:
        """Return which images the judge assigns to another class than `y`: bool `(B,)`; counted as a forward each.

        With `beyond_chance`, those of a random network where `Judge.is_beyond_chance`. An attack that stops at the
        first of many points that is confirmed would otherwise stop at lucky draws, and other draws decide at the end.
        """
        logits = self._confirming_logits(x)
        confirmed = (logits.argmax(1) != y) & logits.isfinite().all(1)
        if beyond_chance:
            confirmed &= self.judge.is_beyond_chance(logits, y)
        if len(self.active_samples) == len(x) and not self.judge.is_random:
            # Attacks return few of the images that were refused, but may ask about many.
            rows = confirmed.nonzero()[:, 0]
            if len(rows):
                self._confirmed.append((self.active_samples[rows], x[rows], logits[rows]))
        return confirmed

    def is_adversarial(
        self, logits: Tensor | None, x: Tensor, y: Tensor, *, among: Tensor | None = None
    ) -> Tensor | None:
        """Return which images x `(B, C, H, W)` are confirmed adversarial, bool `(B,)`; None for none or in a transfer.

        `logits` `(B, K)`, the copy's at x, select candidates, of those in `among`, bool `(B,)`, if it is given; only
        these are judged, those of a random network beyond chance. Costs two host synchronizations.
        """
        return self._confirmed_of(logits, x, y, among=among, beyond_chance=True)

    def _confirmed_of(
        self, logits: Tensor | None, x: Tensor, y: Tensor, *, among: Tensor | None, beyond_chance: bool
    ) -> Tensor | None:
        if logits is None or self.transfers:
            return None
        wrong = logits.argmax(1) != y
        candidates = (wrong if among is None else wrong & among).nonzero()[:, 0]
        if not len(candidates):
            return None
        with self.subset(candidates):
            confirmed = self.confirm(x[candidates], y[candidates], beyond_chance=beyond_chance)
        return torch.zeros(len(x), dtype=torch.bool, device=x.device).index_put_((candidates,), confirmed)

    def misclassified(self, logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Return which images x `(B, C, H, W)` are confirmed adversarial, bool `(B,)`; in a transfer, for the sources.

        `logits` `(B, K)` are the copy's at x. Of a random network, chance may have confirmed some.
        """
        if self.transfers:
            return (logits.argmax(1) != y) & logits.isfinite().all(1)
        adversarial = self._confirmed_of(logits, x, y, among=None, beyond_chance=False)
        return torch.zeros(len(x), dtype=torch.bool, device=x.device) if adversarial is None else adversarial

    def margins(self, x: Tensor, y: Tensor, *, logits: Tensor | None = None) -> Tensor:
        """Return the margins of `y` at x `(B, C, H, W)`, `(B,)`, by which one of several points is chosen.

        They are the copy's, of `logits` `(B, K)` if these are known. Of a random network, few draws led to the points;
        others compare them, those that confirm.
        """
        if not self.transfers and self.judge.is_random:
            return logit_margin(self._confirming_logits(x), y)
        return logit_margin(self.logits(x) if logits is None else logits, y)

    @property
    def keeps_last(self) -> bool:
        """Return whether the last of several points is as good as any, as each ended a run that did not succeed."""
        return not (self.transfers or self.judge.is_random)

    def _confirming_logits(self, x: Tensor) -> Tensor:
        self.counts.add_forwards(len(x), times=self.judge.draws)
        return self.judge.logits(x, stream="confirm")

    def final_logits(self, x: Tensor) -> Tensor:
        """Return the judge's logits `(B, K)` at the images an attack returned for the current batch.

        Images that were confirmed during the attack, bit by bit the same, are not judged again, unless the network is
        random: the attack may have stopped on lucky draws, so these images are judged with others.
        """
        logits: Tensor | None = None
        known = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        for samples, images, judged in self._confirmed:
            same = (x[samples] == images).flatten(1).all(1)
            logits = judged.new_empty(len(x), judged.shape[1]) if logits is None else logits
            logits[samples[same]], known[samples[same]] = judged[same], True
        unknown = (~known).nonzero()[:, 0]
        if logits is None or len(unknown) == len(x):
            return self.judge.logits(x)
        if len(unknown):
            logits[unknown] = self.judge.logits(x[unknown])
        return logits
