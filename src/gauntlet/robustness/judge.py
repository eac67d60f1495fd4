"""The judge: the network as given, which alone decides whether an attack or a certificate succeeded.

Also the identity of the cell that rows belong to, and functions of logits.
"""

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
    """The experiment, variant and seed written to each row; the seed also addresses the rows' random draws."""

    experiment: str = ""
    variant: str = ""
    seed: int = 0


class Judge:
    """The network as given, on a device, in float32 (or float64): logits without gradient, in batches.

    With `draws` above one, for a random network, the mean over this many passes decides, each with its own seed. The
    network is never changed: a copy is used unless it already has this device and dtype.
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
        self.network = network if _has(network, device, dtype) else copy_network(network).to(device, dtype)

    def logits(self, x: Tensor) -> Tensor:
        """Return logits `(B, K)` for images `(B, C, H, W)`; the batch is halved when memory runs out."""
        parts = list(self.memory.parts(len(x), lambda part: self._forward(x[part].to(self.device, self.dtype))))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the probability of the predicted class, `(B,)` in [0, 1], for logits `(B, K)` of this judge."""
        return class_probabilities(self.network if self.draws == 1 else None, logits).amax(1)

    @torch.no_grad()
    def _forward(self, x: Tensor) -> Tensor:
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
    """Seed torch's global generators inside, for a random network, and restore their state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def mean_logits(outputs: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean probability over several outputs `(B, K)`; a single one is returned as it is."""
    if len(outputs) == 1:
        return outputs[0]
    return torch.stack([output.log_softmax(1) for output in outputs]).logsumexp(0) - math.log(len(outputs))


def class_probabilities(network: nn.Module | None, logits: Tensor) -> Tensor:
    """Return the probability of each class, `(B, K)` in [0, 1], for a network's logits `(B, K)`.

    This is the softmax, except for a Network with another kind of output: sigmoids need not sum to 1. Pass None for
    logits that `mean_logits` returned.
    """
    return network.probabilities(logits) if isinstance(network, Network) else logits.softmax(1)


def logit_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - max_{i != y} z_i, `(B,)`: positive where the label is predicted."""
    column = labels[:, None]
    return logits.gather(1, column)[:, 0] - logits.scatter(1, column, -torch.inf).amax(1)


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer; the CPU if it has none."""
    first = next(network.parameters(), next(network.buffers(), None))
    return torch.device("cpu") if first is None else first.device


def copy_network(network: nn.Module) -> nn.Module:
    """Copy a network. Raises InputError for one that cannot be copied."""
    try:
        return copy.deepcopy(network)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the model cannot be copied ({reason})", remedy="export it to plain layers first") from error


def _has(network: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    tensors = [*network.parameters(), *network.buffers()]
    return all(t.device == device and (t.dtype == dtype or not t.is_floating_point()) for t in tensors)
