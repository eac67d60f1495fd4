"""Forward passes of a batch in parts: the shares of several processes, and parts that fit into memory.

The network's raw outputs are those of the whole batch, and so is the gradient, whatever loss is computed from them. A
part that was made to save memory is computed again in the backward pass, so that the activations of one part are stored
at a time (Chen et al. 2016, arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import GauntletError, first_line
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversary import without_side_effects
from gauntlet.learning.training.buffers import buffers_restored
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.split_checks import drawing_layers, first_difference
from gauntlet.learning.training.whole_batch import Rows, draw_whole_batch, normalize_whole_batch

Weights = dict[tuple[int, str], Tensor | None]
"""Values of parametrized weights, as torch keeps them: by the id of their module and their name."""


class SplitPasses:
    """Replacement of a network's `outputs` that passes each batch through it in parts.

    `processes` share each batch. `sample` `(N, C, H, W)` holds a few images, with which a network is checked before it
    is used in parts. `batch_size` is the largest number of images of a pass.
    """

    def __init__(
        self, network: Network, sample: Tensor, *, batch_size: int, processes: DataParallelGroup | None = None
    ) -> None:
        self.network, self.sample, self.processes = network, sample, processes
        share = batch_size if processes is None else -(-batch_size // processes.world_size)
        self._size = BatchSize(share, sample.device)
        self.rows: Rows | None = None
        self._own_outputs, self._layers = network.outputs, list[nn.Module]()
        self._attached = self._is_checked = False
        self._indivisible: str | None = None
        if processes is not None:
            self._attach()
            if reason := self._check(None):
                remedy = "set `training.gpus: 1` for this variant"
                raise GauntletError(f"several processes cannot share a batch: {reason}", remedy=remedy)

    @property
    def part_size(self) -> int | None:
        """Number of images per part; None while memory has not run out."""
        return self._size.reduced

    def sum(self, own: Tensor, *, counted: bool) -> Tensor:
        """Return the sum over the processes that share the batch."""
        return own if self.processes is None else self.processes.sum(own, counted=counted)

    @property
    def half_size(self) -> int:
        """Half of the number of images that a pass computes now."""
        return self._size.current // 2

    def shrink(self, to: int | None = None, *, required: bool | None = None) -> None:
        """Halve the parts after memory ran out, or set their size; from then on batches are computed in parts.

        `required` states whether training needs the parts, by default if the network is in training mode; else a
        network that needs whole batches in training is accepted. Raises GauntletError if it does and may not, and if a
        single image does not fit.
        """
        if to is None:
            self._size.halve()
        else:
            self._size.current = min(to, self._size.size)
        if not self._is_checked:
            self._attach()
            self._indivisible, self._is_checked = self._check(2), True
        if self._indivisible is not None and (self.network.training if required is None else required):
            size = self._size.size * (self.processes.world_size if self.processes else 1)
            problem = f"memory ran out with a batch_size of {size}, and parts cannot replace it: {self._indivisible}"
            remedy = "lower `training.batch_size`, raise `training.gpus`, or use a device with more memory"
            raise GauntletError(problem, remedy=remedy)

    def detach(self) -> None:
        """Restore the network's own `outputs` and layers."""
        vars(self.network).pop("outputs", None)
        for layer in self._layers:
            vars(layer).pop("forward", None)
        self._layers, self._attached = [], False

    def _attach(self) -> None:
        if self._attached:
            return
        self._attached = True
        vars(self.network)["outputs"] = self._outputs
        if self.processes is not None:
            for layer in self.network.modules():
                if isinstance(layer, _BatchNorm):
                    self._replace(layer, partial(normalize_whole_batch, layer, self))
        sample = self.sample
        with without_side_effects(self.network, training=True), _own_generators(sample), torch.no_grad():
            for layer in drawing_layers(self.network, lambda: self._own_outputs(sample), sample.device):
                self._replace(layer, partial(draw_whole_batch, layer, self))

    def _replace(self, layer: nn.Module, forward: Callable[..., Tensor]) -> None:
        vars(layer)["forward"] = forward
        self._layers.append(layer)

    def _check(self, size: int | None) -> str | None:
        """Return why parts of `size` images (None: one part) have other outputs than the whole batch, or None."""

        # Each pass computes the parametrized weights anew: it changes the buffers of their parametrizations.
        def whole() -> Tensor:
            with _with_weights({}):
                return self._own_outputs(self.sample)

        def split() -> Tensor:
            with _with_weights({}):
                return self._compute(self.sample, size)

        with without_side_effects(self.network, training=True), _own_generators(self.sample), torch.no_grad():
            try:
                return first_difference(self.network, whole, split, lambda: self.rows)
            except ValueError as error:
                # Batch normalization refuses a part of one image.
                return first_line(error)

    def _outputs(self, images: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to the raw outputs of all of them, `(B, ...)`."""
        splits = not (self.network.training and self._indivisible is not None)
        outputs = self._compute(images, self.part_size if splits else None)
        return outputs if self.processes is None else self.processes.gather(outputs, len(images))

    def _compute(self, images: Tensor, size: int | None) -> Tensor:
        """Map this process's share of the images to their raw outputs, in parts of `size` images (None: one part)."""
        total = len(images)
        own = slice(0, total) if self.processes is None else self.processes.rows(total)
        if own.stop == own.start:
            # Some layers fail on an empty batch: a process without rows computes one image and discards its outputs.
            return self._pass(images[:1], Rows(0, 1, total, counted=False))
        if size is None:
            return self._pass(images[own], Rows(own.start, own.stop, total))
        outputs, states = [], _generator_states(images)
        with parametrize.cached():
            weights = _parametrized_weights(self.network)
            for start in range(own.start, own.stop, size):
                # Each part draws what the whole batch would.
                _set_generator_states(images, states)
                rows = Rows(start, min(start + size, own.stop), total)
                part = images[rows.start : rows.stop]
                if torch.is_grad_enabled():
                    contexts = partial(_contexts, self.network, weights)
                    computed = checkpoint(self._pass, part, rows, use_reentrant=False, context_fn=contexts)
                else:
                    computed = self._pass(part, rows)
                outputs.append(computed)
        return torch.cat(outputs)

    def _pass(self, images: Tensor, rows: Rows) -> Tensor:
        before, self.rows = self.rows, rows
        try:
            return self._own_outputs(images)
        finally:
            self.rows = before


def _parametrized_weights(network: Network) -> Weights:
    """Compute the parametrized weights, which the parts then share, and return torch's cache of them."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            for name in module.parametrizations:  # type: ignore[union-attr]
                getattr(module, name)
    return parametrize._cache


def _contexts(network: Network, weights: Weights) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _Recomputation(network, weights)


class _Recomputation(AbstractContextManager[None]):
    """Context of a part's recomputations: each uses the weights of the first pass, and leaves the buffers as they are.

    Some parametrized weights change with every computation, and some buffers with every pass.
    """

    def __init__(self, network: Network, weights: Weights) -> None:
        self.network, self.weights = network, weights
        self._entered: list[ExitStack] = []

    def __enter__(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(_with_weights(self.weights))
            stack.enter_context(buffers_restored(self.network))
            self._entered.append(stack.pop_all())

    def __exit__(self, *error: Any) -> None:
        self._entered.pop().__exit__(*error)


@contextmanager
def _with_weights(weights: Weights) -> Iterator[None]:
    """Use these values of parametrized weights, and compute the others once."""
    before = parametrize._cache
    try:
        with parametrize.cached():
            parametrize._cache = dict(weights)
            yield
    finally:
        parametrize._cache = before


@contextmanager
def _own_generators(images: Tensor) -> Iterator[None]:
    """Restore the global generators afterwards."""
    with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def _generator_states(images: Tensor) -> tuple[Tensor, Tensor | None]:
    on_device = torch.cuda.get_rng_state(images.device) if images.device.type == "cuda" else None
    return torch.get_rng_state(), on_device


def _set_generator_states(images: Tensor, states: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], images.device)
