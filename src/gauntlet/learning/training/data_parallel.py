"""One training by several processes: each takes its share of every batch, and all make the same steps.

Every process draws the whole batch, sends its own rows alone through the network, and gathers the raw outputs of all.
What follows, whatever loss it is, sees the whole batch, as in one process: statistics of a batch, uneven shares,
negatives and adversaries need nothing of their own, and figures, validation and decisions are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.network import Network

PROCESS_LOST = "another process of this training ended"
"""What is said by those who did not fail themselves."""

T = TypeVar("T")


class DataParallelGroup:
    """The processes of torch's default group, of which this is number `rank` of `count`.

    Everything here is done by all of them together, in the same order. Raises GauntletError where one is no more.
    """

    def __init__(self) -> None:
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def attach(self, network: Network) -> None:
        """Share the passes of a network: its raw outputs are of all rows, its gradients of the own rows, times `count`.

        Raises GauntletError for a network whose outputs depend on who shares a batch.
        """
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                _refuse(f"{type(module).__name__} takes its statistics of a whole batch")
            if isinstance(module, _DropoutNd):
                _refuse(f"{type(module).__name__} draws for a whole batch")
        vars(network)["outputs"] = partial(self._outputs, network.outputs)

    def detach(self, network: Network) -> None:
        """Give a network its own passes back."""
        vars(network).pop("outputs", None)

    def rows(self, total: int, rank: int | None = None) -> slice:
        """Say which rows of a batch a process takes, this one if not said which; sizes differ by one at most."""
        rank = self.rank if rank is None else rank
        return slice(total * rank // self.world_size, total * (rank + 1) // self.world_size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over the processes: by those of the whole batch."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _together():
            dist.all_reduce(flat)
        flat /= self.world_size
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, wanted: bool) -> bool:
        """Tell whether one of the processes wants something."""
        flag = torch.tensor(int(wanted))
        with _together():
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def broadcast(self, value: T) -> T:
        """Give what the first process has."""
        values: list[Any] = [value]
        with _together():
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        given: T = values[0]
        return given

    def check_weights(self, network: Network) -> None:
        """Raise GauntletError if the processes' weights are no longer the same, to the last bit."""
        sums = torch.stack([tensor.detach().double().sum() for tensor in network.state_dict().values()])
        low = sums.nan_to_num().cpu()
        high = low.clone()
        with _together():
            dist.all_reduce(low, op=dist.ReduceOp.MIN)
            dist.all_reduce(high, op=dist.ReduceOp.MAX)
        if not torch.equal(low, high):
            remedy = "use GPUs of one kind, or set `training.gpus: 1`"
            raise GauntletError("the weights of the processes have drifted apart", remedy=remedy)

    def _outputs(self, alone: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Map images `(B, C, H, W)` to the raw outputs of all of them, `(B, ...)`."""
        own = self.rows(len(images))
        # No layer need stand a batch of nothing: a process without a row computes one that nobody uses.
        outputs = alone(images[own] if own.stop > own.start else images[:1])
        gathered: Tensor = _Gathered.apply(outputs, self, len(images))
        return gathered


class _Gathered(torch.autograd.Function):
    """The rows of all processes; the gradient of the own rows, times the number of processes.

    With that factor a mean over processes is right for all gradients: of what a process does for its own rows, and of
    what all do alike, as penalties on the weights.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: DataParallelGroup, total: int) -> Tensor:
        """Gather `(B, ...)` from the own rows; all shares are padded to the largest."""
        rows = processes.rows(total)
        ctx.rows, ctx.factor, ctx.shape = rows, processes.world_size, own.shape
        count, largest = rows.stop - rows.start, -(-total // processes.world_size)
        padded = own.new_zeros(largest, *own.shape[1:])
        padded[:count] = own[:count]
        parts = [torch.empty_like(padded) for _ in range(processes.world_size)]
        with _together():
            dist.all_gather(parts, padded)
        shares = (processes.rows(total, rank) for rank in range(processes.world_size))
        return torch.cat([part[: share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Hand the own rows' gradient on."""
        (gradient,) = gradients
        own = gradient.new_zeros(ctx.shape)
        own[: ctx.rows.stop - ctx.rows.start] = gradient[ctx.rows] * ctx.factor
        return own, None, None


def _refuse(reason: str) -> None:
    raise GauntletError(
        f"{reason}, and each of several processes sees only its share", remedy="set `training.gpus: 1` for this variant"
    )


@contextmanager
def _together() -> Iterator[None]:
    """Tell plainly when another process is no more."""
    try:
        yield
    except RuntimeError as error:
        raise GauntletError(PROCESS_LOST, remedy="its own message says why") from error
