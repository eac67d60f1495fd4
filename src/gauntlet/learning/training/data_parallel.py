"""Data-parallel training: each process computes a share of every batch, and all processes take the same steps.

Each process draws the whole batch, passes its own rows through the network (`SplitPasses`), and gathers the raw
outputs of all rows. Everything computed from the outputs sees the whole batch, as in a single process: losses of batch
statistics, uneven shares, negatives and adversaries need no special treatment, and metrics, validation and decisions
are equal in all processes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gauntlet.core.device_errors import is_out_of_memory
from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.network import Network

PROCESS_LOST = "another process of this training ended"
"""Message of the processes that did not fail themselves."""

T = TypeVar("T")


class DataParallelGroup:
    """The processes of torch's default process group, from the view of process `rank` of `world_size`.

    All methods but `rows` are collective operations: all processes run them, in the same order. They raise
    GauntletError if a process has ended.
    """

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def rows(self, total: int, rank: int | None = None) -> slice:
        """Return the rows of a batch that a process computes, by default this one; shares differ by at most one row."""
        rank = self.rank if rank is None else rank
        return slice(total * rank // self.world_size, total * (rank + 1) // self.world_size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over the processes, which is the gradient of the whole batch."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _collective():
            dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def maxima(self, values: Sequence[int]) -> list[int]:
        """Return the largest of each value over the processes."""
        largest = torch.tensor(values, dtype=torch.int64)
        with _collective():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return [int(value) for value in largest]

    def broadcast(self, value: T) -> T:
        """Return the value of the first process."""
        values: list[Any] = [value]
        with _collective():
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        first: T = values[0]
        return first

    def check_weights(self, network: Network) -> None:
        """Raise GauntletError unless the sums of each weight and buffer, float64, are equal in all processes."""
        sums = torch.stack([tensor.detach().double().sum() for tensor in network.state_dict().values()])
        # NaN, which training can reach in all processes, equals nothing: whether a sum is NaN is compared as a number.
        low = torch.cat([sums.nan_to_num(0.0, math.inf, -math.inf), sums.isnan()]).cpu()
        high = low.clone()
        with _collective():
            dist.all_reduce(low, op=dist.ReduceOp.MIN)
            dist.all_reduce(high, op=dist.ReduceOp.MAX)
        if not torch.equal(low, high):
            remedy = "use GPUs of one kind, or set `training.gpus: 1`"
            raise GauntletError("the weights of the processes have drifted apart", remedy=remedy)

    def gather(self, own: Tensor, total: int) -> Tensor:
        """Return the outputs `(total, ...)` of all rows of a batch, from those of this process's rows.

        A process without rows passes the outputs of any one row, which are ignored. The gradient is that of this
        process's rows, times `world_size`.
        """
        gathered: Tensor = _GatherOutputs.apply(own, self, total)
        return gathered

    def sum(self, own: Tensor, *, counted: bool) -> Tensor:
        """Return the sum of a tensor over the processes whose values are counted, with a gradient for each of them."""
        total: Tensor = _SumOverProcesses.apply(own, counted)
        return total


class _GatherOutputs(torch.autograd.Function):
    """Concatenation of all processes' rows; its gradient is that of this process's rows, times the number of processes.

    With this factor the mean over the processes is correct both for gradients of a process's own rows and for
    gradients that all processes compute alike, such as those of penalties on the weights.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: DataParallelGroup, total: int) -> Tensor:
        """Gather `(B, ...)` from the rows of all processes, padded to equal numbers."""
        rows = processes.rows(total)
        ctx.rows, ctx.factor, ctx.shape = rows, processes.world_size, own.shape
        count, largest = rows.stop - rows.start, -(-total // processes.world_size)
        padded = own.new_zeros(largest, *own.shape[1:])
        padded[:count] = own[:count]
        parts = [torch.empty_like(padded) for _ in range(processes.world_size)]
        with _collective():
            dist.all_gather(parts, padded)
        shares = (processes.rows(total, rank) for rank in range(processes.world_size))
        return torch.cat([part[: share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of this process's rows."""
        (gradient,) = gradients
        own = gradient.new_zeros(ctx.shape)
        own[: ctx.rows.stop - ctx.rows.start] = gradient[ctx.rows] * ctx.factor
        return own, None, None


class _SumOverProcesses(torch.autograd.Function):
    """Sum over all processes; so is its gradient, since each process's result depends on the values of all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, counted: bool) -> Tensor:
        """Sum the tensors of the counted processes."""
        ctx.counted = counted
        total = own.clone(memory_format=torch.contiguous_format) if counted else torch.zeros_like(own)
        with _collective():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum the gradients of all processes; a process that is not counted takes part, and gets zero."""
        total = _SumOverProcesses.apply(gradients[0], True)
        return total if ctx.counted else torch.zeros_like(total), None


@contextmanager
def _collective() -> Iterator[None]:
    """Convert the errors of a collective operation after another process ended, but not those of memory."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise GauntletError(PROCESS_LOST, remedy="see the message of that process") from error
