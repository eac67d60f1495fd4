"""Checks, by experiment, of networks whose batches are computed in parts: layers that draw, or see other samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError
from gauntlet.learning.training.buffers import BufferCopies
from gauntlet.learning.training.whole_batch import Rows

_ROUNDING = 1e-3
"""Share of a layer's largest output by which rounding may change it in another batch."""


def drawing_layers(network: nn.Module, run: Callable[[], Tensor], device: torch.device) -> list[nn.Module]:
    """List the layers that advance torch's global generators when `run` passes images through the network.

    Raises GauntletError for a module that draws itself and has submodules.
    """
    drawing: dict[nn.Module, None] = {}
    running: list[nn.Module] = [network]
    last = [_states(device)]

    def note() -> None:
        states = _states(device)
        if not all(map(torch.equal, states, last[0])):
            drawing[running[-1]] = None
        last[0] = states

    def enter(module: nn.Module, _inputs: Any) -> None:
        note()
        running.append(module)

    def leave(_module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        note()
        running.pop()

    with _hooks(network, enter, leave):
        run()
        note()
    for module in drawing:
        if any(True for _ in module.children()):
            problem = f"a batch cannot be computed in parts: {_name(network, module)} draws random numbers itself"
            remedy = "let a submodule without submodules of its own draw them, or set `training.gpus: 1` or a smaller "
            raise GauntletError(problem, remedy=f"{remedy}`training.batch_size`")
    return list(drawing)


def first_difference(
    network: nn.Module, whole: Callable[[], Tensor], split: Callable[[], Tensor], rows: Callable[[], Rows | None]
) -> str | None:
    """Return a message about the first layer that computes other values in parts of a batch; None if none does.

    `whole` passes a batch through the network at once, `split` in parts; during the latter `rows` returns those of the
    current part.
    """
    buffers = BufferCopies(network)
    expected: dict[tuple[nn.Module, int], Tensor] = {}
    calls: dict[Any, int] = {}

    def record(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        expected[module, _count(calls, module)] = outputs.clone() if isinstance(outputs, Tensor) else outputs

    torch.manual_seed(0)
    with _hooks(network, None, record):
        outputs = whole()
    expected_buffers = _buffers(network)
    buffers.restore()
    differing: list[nn.Module] = []
    passes: list[Rows] = []

    def compare(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        current = rows()
        if current is not None and current.counted:
            passes.append(current)
            reference = expected.get((module, _count(calls, (module, current))))
            if isinstance(outputs, Tensor) and isinstance(reference, Tensor) and _differ(outputs, reference, current):
                differing.append(module)

    torch.manual_seed(0)
    with _hooks(network, None, compare):
        own = split()
    if passes:
        share = Rows(min(part.start for part in passes), max(part.stop for part in passes), passes[0].total)
        if not differing and _differ(own, outputs, share):
            differing.append(network)
    if differing:
        return f"the outputs of {_name(network, differing[0])} depend on the rest of the batch"
    for name, buffer in _buffers(network).items():
        if not _close(buffer, expected_buffers[name]):
            return f"the buffer {name} depends on how a batch is divided"
    return None


def _count(calls: dict[Any, int], key: Any) -> int:
    calls[key] = calls.get(key, -1) + 1
    return calls[key]


def _differ(part: Tensor, whole: Tensor, rows: Rows) -> bool:
    """Return whether outputs for some rows differ from those for the whole batch; False without an axis of samples."""
    if not whole.dim() or not part.dim() or len(whole) % rows.total or len(part) % len(rows):
        return False
    if len(part) == len(whole) and len(rows) < rows.total:
        # A parametrized weight: no more rows in the whole batch than in its part.
        return False
    factor = len(whole) // rows.total
    return not _close(part, whole[rows.start * factor : rows.stop * factor])


def _close(value: Tensor, reference: Tensor) -> bool:
    if value.shape != reference.shape:
        return False
    scale = float(reference.abs().max()) if reference.numel() else 0.0
    return torch.allclose(value, reference, rtol=0, atol=_ROUNDING * scale, equal_nan=True)


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone().double() for name, buffer in network.named_buffers()}


def _states(device: torch.device) -> list[Tensor]:
    on_device = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_device]


@contextmanager
def _hooks(network: nn.Module, before: Callable[..., None] | None, after: Callable[..., None]) -> Iterator[None]:
    """Call functions before and after every module's forward pass."""
    handles = [module.register_forward_hook(after) for module in network.modules()]
    if before is not None:
        handles += [module.register_forward_pre_hook(before) for module in network.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _name(network: nn.Module, module: nn.Module) -> str:
    """Return a module's class and its path in the network."""
    path = next((path for path, other in network.named_modules() if other is module), "")
    return f"{type(module).__name__} ({path})" if path else type(module).__name__
