"""What is attacked or certified: the cell it belongs to, its images, and the plain model, which alone judges."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import BatchSize
from gauntlet.core.errors import InputError
from gauntlet.core.randomness import derive_seed
from gauntlet.learning.models.network import Network


@dataclass(frozen=True)
class CellIdentity:
    """Which experiment, variant and seed rows belong to; the seed also addresses their draws."""

    experiment: str = ""
    variant: str = ""
    seed: int = 0


class Judge:
    """The network as it was given, on a device, in float32 (or float64): logits without gradient, in batches.

    With `draws` above one, for a random network, the mean over so many passes decides, each with a seed of its own.

    The network itself is used where it is there already, a copy otherwise; it is never changed.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 256,
        draws: int = 1,
    ) -> None:
        self.device, self.dtype, self.draws = device, dtype, draws
        self.memory = BatchSize(batch_size, device)
        self.network = network if _is_at(network, device, dtype) else copied(network).to(device, dtype)

    def logits(self, x: Tensor) -> Tensor:
        """Give `(B, K)` for images `(B, C, H, W)`; the batch is halved when memory runs out."""
        parts = list(self.memory.parts(len(x), lambda part: self._passed(x[part].to(self.device, self.dtype))))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def confidence(self, logits: Tensor) -> Tensor:
        """Say how sure the network is of its answer, `(B,)` in [0, 1], for logits `(B, K)` that `logits` gave."""
        return class_probabilities(self.network if self.draws == 1 else None, logits).amax(1)

    @torch.no_grad()
    def _passed(self, x: Tensor) -> Tensor:
        if self.draws == 1:
            logits: Tensor = self.network(x)
            return logits
        outputs = []
        for number in range(self.draws):
            with seeded(derive_seed("judge", "draw", number), self.device):
                outputs.append(self.network(x))
        return mean_logits(outputs)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let a random network draw from this seed inside; the global generators are left as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def mean_logits(outputs: Sequence[Tensor]) -> Tensor:
    """Give the logarithm of the mean probability over several outputs `(B, K)`."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack([one.log_softmax(1) for one in outputs]).logsumexp(0) - math.log(len(outputs))


def class_probabilities(network: nn.Module | None, logits: Tensor) -> Tensor:
    """Give what a network holds each class to be, `(B, K)` in [0, 1], for its logits `(B, K)`.

    That is the softmax, unless the network is one of ours with another output: sigmoids need not sum to 1. None stands
    for a mean of logits (`mean_logits`), which is one of softmaxes.
    """
    return network.probabilities(logits) if isinstance(network, Network) else logits.softmax(1)


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """z_y - max_{i != y} z_i, `(B,)`: positive where the label wins."""
    column = labels[:, None]
    return logits.gather(1, column)[:, 0] - logits.scatter(1, column, -torch.inf).amax(1)


def device_of(network: nn.Module) -> torch.device:
    """Say where a network's first parameter or buffer lies; the CPU for a network without any."""
    first = next(network.parameters(), next(network.buffers(), None))
    return torch.device("cpu") if first is None else first.device


def copied(network: nn.Module) -> nn.Module:
    """Copy a network. Raises InputError where that cannot be done."""
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the model cannot be copied ({reason})", remedy="export it to plain layers first") from error


def _is_at(network: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    tensors = [*network.parameters(), *network.buffers()]
    return all(t.device == device and (t.dtype == dtype or not t.is_floating_point()) for t in tensors)
