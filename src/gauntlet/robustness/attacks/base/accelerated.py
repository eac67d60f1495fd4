"""Accelerated copies of the networks that an attack queries; every query is counted per sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import InputError, nearest
from gauntlet.learning.models.network import Network
from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES, UNTARGETED_LOSSES, AttackLoss
from gauntlet.robustness.attacks.base.query_counts import QueryCounts
from gauntlet.robustness.attacks.base.training_loss import training_loss
from gauntlet.robustness.judge import class_probabilities
from gauntlet.robustness.networks import (
    Forward,
    InputFormat,
    adaptive_pairs,
    frozen_copy,
    offered_surrogates,
    usable_network,
)
from gauntlet.robustness.random_networks import mean_logits, mean_over_draws


class Gradients(NamedTuple):
    """Result of one forward and one backward pass at a batch of points.

    `outputs` `(B, K)` are those that the gradient `(B, C, H, W)` was taken of. `logits` `(B, K)` are the model's own,
    None in a transfer, where an attack may not query the model.
    """

    outputs: Tensor
    logits: Tensor | None
    gradient: Tensor


class AcceleratedModel:
    """Frozen copies of the networks that an attack queries, in the attack's precision, channels last where they can be.

    Several networks form an ensemble: its output is the logarithm of their mean probability. With `draws` above one,
    for a random network, outputs and gradients are means over this many passes (expectation over transformation,
    Athalye et al. 2018, arXiv:1802.00420), whose draws depend on the image alone (`random_networks`).

    Hooks count every forward and backward, and every gradient at an image that is zero throughout or not finite;
    entries that are not finite then become 0. Queries count for the samples of the innermost `subset(...)`: b images
    for r samples are b / r forwards each, in whatever order the images are.

    `surrogate` names another differentiable output that the network offers in ``network.surrogates``: `__call__` and
    `gradients` then use it, `logits` stay those of the network. "adaptive" is the first of ``network.adaptive``.

    Raises InputError for an unknown surrogate and for a network that cannot be copied.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        *,
        device: torch.device,
        dtype: torch.dtype,
        autocast: bool = False,
        transfers: bool = False,
        surrogate: str | None = None,
        draws: int = 1,
        batch_size: int = 256,
    ) -> None:
        self.device, self.dtype, self.autocast = device, dtype, autocast
        self.transfers, self.draws = transfers, draws
        self.memory = BatchSize(batch_size, device)
        self.counts = QueryCounts(device)
        self._bypasses_hook, self._counts_hooked = False, True
        self._copies = [self._accelerated(network) for network in networks]
        self.images = InputFormat(copies=self._copies)
        self.network = self._copies[0]
        self._logits = _ensemble(self._copies)
        self.surrogate, self._outputs = self._resolve(surrogate)

    def __call__(self, x: Tensor) -> Tensor:
        """Return differentiable outputs `(B, K)` for x `(B, C, H, W)`, in one batch: the surrogate's, if any."""
        return self._query(self._outputs, x)

    def logits(self, x: Tensor) -> Tensor:
        """Return the network's (in a transfer: the sources') logits `(B, K)`, without gradient, in batches."""
        return torch.cat(list(self.memory.parts(len(x), lambda part: self._logits_of(x, part), counter=self.counts)))

    def loss(self, name: str, *, targeted: bool = False) -> AttackLoss:
        """Return the attack loss of this name; `training` is the loss that the network was trained with.

        Raises InputError where the network has no training loss, or it does not apply: with targets, a surrogate,
        several draws or several sources.
        """
        if name != "training":
            return (TARGETED_LOSSES if targeted else UNTARGETED_LOSSES)[name]
        excluded = {
            "targets": targeted,
            "a surrogate": self.surrogate is not None,
            "draws": self.draws > 1,
            "several sources": len(self._copies) > 1,
        }
        for what, present in excluded.items():
            if present:
                remedy = "use cross_entropy, margin or dlr"
                raise InputError(f"the training loss cannot be combined with {what}", where="loss", remedy=remedy)
        return training_loss(self.network)

    def gradients(self, x: Tensor, y: Tensor, loss: AttackLoss, *, targets: Tensor | None = None) -> Gradients:
        """Return outputs, logits and the gradient of the loss with respect to x `(B, C, H, W)`.

        y and targets are int64 `(B,)`. Costs one forward and one backward per sample and draw, in batches; the logits
        come from the same forward. With a surrogate that is no function of a Network's features, they cost a forward of
        their own. `outputs` are raw outputs where the loss is a function of these. Raises InputError when the loss
        needs more classes than the model has.
        """
        loss_targets = y if targets is None else targets

        def run(part: slice) -> Gradients:
            with self.subset(part), torch.enable_grad():
                leaf = x[part].detach().requires_grad_(True)
                outputs, logits = self._differentiable(leaf, loss)
                loss.check(outputs)
                derivative = loss.derivative(outputs.detach(), y[part], loss_targets[part])
                (gradient,) = torch.autograd.grad(outputs, leaf, derivative)
            outputs = outputs.detach()
            if self.transfers:
                return Gradients(outputs, None, gradient)
            if logits is None:
                with torch.no_grad():
                    logits = self._logits_at(x, part, outputs, loss)
            return Gradients(outputs, logits, gradient)

        parts = list(self.memory.parts(len(x), run, counter=self.counts))
        if len(parts) == 1:
            return parts[0]
        outputs, logits, gradient = zip(*parts, strict=True)
        return Gradients(torch.cat(outputs), None if self.transfers else torch.cat(logits), torch.cat(gradient))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return class probabilities `(B, K)` for logits that `logits` returned."""
        single = len(self._copies) == 1 and self.draws == 1
        return class_probabilities(self.network if single else None, logits)

    @property
    def adaptive(self) -> Sequence[tuple[str, str]]:
        """Pairs of surrogate and loss that suit the network's kind of output, best first."""
        return adaptive_pairs(self.network)

    @contextmanager
    def using_surrogate(self, name: str) -> Iterator[None]:
        """Take outputs and gradients from another surrogate inside. Raises InputError for an unknown one."""
        outer = self.surrogate, self._outputs
        self.surrogate, self._outputs = self._resolve(name)
        try:
            yield
        finally:
            self.surrogate, self._outputs = outer

    @property
    def active_samples(self) -> Tensor:
        """Samples of the current batch that queries count for: int64 `(A,)`."""
        return self.counts.active

    def subset(self, rows: Tensor | slice, counted: Tensor | None = None) -> AbstractContextManager[None]:
        """Count the queries inside for a part of the active samples: `rows` are indices into them, int64 `(A,)`.

        Of these, only those in `counted`, bool `(A,)`, count, if it is given.
        """
        return self.counts.subset(rows, counted)

    def _resolve(self, surrogate: str | None) -> tuple[str | None, Forward]:
        if surrogate == "adaptive":
            surrogate = self.adaptive[0][0]
        if surrogate is None or surrogate == "logits":
            return None, self._logits
        return surrogate, _ensemble([_surrogate(network, surrogate) for network in self._copies])

    def _differentiable(self, x: Tensor, loss: AttackLoss) -> tuple[Tensor, Tensor | None]:
        """Return the outputs at x that a loss is a function of, and the logits where features serve for both."""
        network, name = self.network, self.surrogate
        if loss.of_raw_outputs:
            return self._query(self._raw_outputs, x), None
        single = len(self._copies) == 1 and self.draws == 1
        if name is None or self.transfers or not (single and isinstance(network, Network) and network.has_one_head):
            return self(x), None
        surrogate, logits = network.head.surrogates()[name], list[Tensor]()

        def forward(images: Tensor) -> Tensor:
            features = network.features(images)
            logits.append(network.decode(network.head(features.detach())))
            return surrogate(features)

        return self._query(forward, x), logits[-1].to(self.dtype)

    def _logits_at(self, x: Tensor, part: slice, outputs: Tensor, loss: AttackLoss) -> Tensor:
        """Return the logits at x[part], without a forward where they follow from the outputs of the loss there."""
        network = self.network
        if loss.of_raw_outputs and isinstance(network, Network) and type(network).forward is Network.forward:
            return network.decode(outputs)
        return self._logits_of(x, part) if loss.of_raw_outputs or self.surrogate is not None else outputs

    def _raw_outputs(self, x: Tensor) -> Tensor:
        network: Any = self.network
        outputs: Tensor = network.outputs(x)
        return outputs

    def _logits_of(self, x: Tensor, part: slice) -> Tensor:
        with torch.no_grad(), self.subset(part):
            return self._query(self._logits, x[part])

    def _query(self, forward: Forward, x: Tensor) -> Tensor:
        x = x.to(self.dtype)
        self._compare_formats(x)
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(self.counts.gradient_hook())
        if self.draws == 1:
            return self._pass(forward, x)
        self._counts_hooked = False
        try:
            outputs = self._mean_over_draws(lambda part: self._pass(forward, part), x, self.draws, "attack")
        finally:
            self._counts_hooked = True
        self.counts.add_pass(len(x) * self.draws * len(self._copies), outputs)
        return outputs

    def _mean_over_draws(self, forward: Forward, x: Tensor, draws: int, stream: str) -> Tensor:
        return mean_over_draws(forward, x, draws=draws, stream=stream, most_rows=self.memory.reduced)

    def _compare_formats(self, x: Tensor) -> None:
        """Choose the memory format of images before the first pass; what is done for it does not count."""

        def outputs(noise: Tensor) -> Tensor:
            if self.draws == 1:
                return self.images.apply(self._logits, noise)
            return self._mean_over_draws(lambda part: self.images.apply(self._logits, part), noise, 1, "formats")

        self._counts_hooked = False
        try:
            self.images.compare(outputs, x)
        finally:
            self._counts_hooked = True

    def _pass(self, forward: Forward, x: Tensor) -> Tensor:
        precision: Any = torch.autocast(self.device.type, torch.bfloat16) if self.autocast else nullcontext()
        # The network's hook counts its forwards, even those of a library; other forwards may bypass that hook.
        self._bypasses_hook = forward is not self._logits
        try:
            with precision:
                # A copy: a network that writes into its input must change neither the attack's images nor the leaf.
                outputs = self.images.apply(forward, x).to(self.dtype)
        finally:
            bypassed, self._bypasses_hook = self._bypasses_hook, False
        if bypassed and self._counts_hooked:
            self.counts.add_pass(len(x) * len(self._copies), outputs)
        return outputs

    def _after_forward(self, _module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if self._counts_hooked and not self._bypasses_hook:
            self.counts.add_pass(len(inputs[0]), outputs)

    def _accelerated(self, network: nn.Module) -> nn.Module:
        copy = frozen_copy(usable_network(network), self.device, self.dtype)
        copy.register_forward_hook(self._after_forward)
        return copy


def _ensemble(forwards: Sequence[Forward]) -> Forward:
    return forwards[0] if len(forwards) == 1 else lambda x: mean_logits([forward(x.clone()) for forward in forwards])


def _surrogate(network: nn.Module, name: str) -> Forward:
    offered = offered_surrogates(network)
    if name not in offered:
        raise InputError(f"the model offers no surrogate '{name}'", remedy=nearest(name, offered))
    return offered[name]
