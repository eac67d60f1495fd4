"""The judge: the network as given, which alone decides whether an attack or a certificate succeeded.

Also the identity of the cell that rows belong to, and functions of logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.batch_size import BatchSize
from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.outputs import OUTPUTS_REMEDY, named_logits
from gauntlet.robustness.networks import InputFormat, copy_network, usable_network
from gauntlet.robustness.random_networks import mean_over_draws

JUDGED_DRAWS = 200
"""Least number of passes of a random network over which its prediction is taken."""

CHANCE = 2.0
"""Standard errors by which another class must exceed the label for a success that chance hardly explains."""


@dataclass(frozen=True)
class CellIdentity:
    """The experiment, variant and seed written to each row; the seed also addresses the rows' random draws."""

    experiment: str = ""
    variant: str = ""
    seed: int = 0


class Judge:
    """The network as given, on a device, in IEEE float32 (or float64): logits without gradient, in batches.

    With `draws` above one, for a random network, the mean over this many passes decides, at least `JUDGED_DRAWS`, whose
    draws depend on the image alone (`random_networks`). The network is never changed: a copy is used unless it already
    has this device and dtype. Each pass gets a copy of the images, so that a network may write into its input, on a CPU
    in channels last where the network computes the same (`images`).
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
        self.device, self.dtype, self.is_random = device, dtype, draws > 1
        self.draws = max(draws, JUDGED_DRAWS) if self.is_random else 1
        self.memory = BatchSize(batch_size, device)
        usable = usable_network(network)
        self.network = usable if _has(usable, device, dtype) else copy_network(usable).to(device, dtype)
        # CUDA's convolutions in IEEE float32 gain nothing from channels last.
        self.images = InputFormat(torch.channels_last if device.type == "cpu" else torch.contiguous_format)

    def logits(self, x: Tensor, *, stream: str = "judge", draws: int | None = None) -> Tensor:
        """Return logits `(B, K)` for images `(B, C, H, W)`; the batch is halved when memory runs out.

        Another `stream` draws other numbers, for a random network; `draws` replaces the number of passes. Raises
        InputError when the network raises, or returns anything but one row of floats per image.
        """
        passes = self.draws if draws is None else draws
        run = self.memory.parts(len(x), lambda part: self._forward(x[part], stream, passes))
        parts = list(run)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class, `(B, K)` in [0, 1], for logits `(B, K)` of this judge."""
        return class_probabilities(None if self.is_random else self.network, logits)

    def confidence(self, logits: Tensor) -> Tensor:
        """Return the probability of the predicted class, `(B,)` in [0, 1], for logits `(B, K)` of this judge."""
        return self.probabilities(logits).amax(1)

    def is_beyond_chance(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return where another class is likelier than the label by more than CHANCE standard errors: bool `(B,)`.

        `logits` `(B, K)` are this judge's. The difference of two probabilities p and q, each a mean over n draws, has a
        standard error of at most sqrt((p + q) / n). Of a network that is not random, nothing is left to chance.
        """
        if not self.is_random:
            return torch.ones_like(labels, dtype=torch.bool)
        probabilities, column = logits.double().softmax(1), labels[:, None]
        label = probabilities.gather(1, column)[:, 0]
        other = probabilities.scatter(1, column, -1.0).amax(1)
        return other - label > CHANCE * ((other + label) / self.draws).sqrt()

    def _forward(self, x: Tensor, stream: str, draws: int) -> Tensor:
        images = x.detach().to(self.device, self.dtype)
        self.images.compare(lambda noise: self._outputs(noise, "formats", 1), images)
        with torch.no_grad(), float32_arithmetic():
            return self._outputs(images, stream, draws)

    def _outputs(self, x: Tensor, stream: str, draws: int) -> Tensor:
        if not self.is_random:
            return self._pass(x)
        return mean_over_draws(self._pass, x, draws=draws, stream=stream, most_rows=self.memory.reduced)

    def _pass(self, x: Tensor) -> Tensor:
        return self.images.apply(self._checked_pass, x)

    def _checked_pass(self, x: Tensor) -> Tensor:
        try:
            outputs = self.network(x)
        except GauntletError:
            raise
        except Exception as error:  # a network may raise anything
            if is_out_of_memory(error) or self.images.is_refused(error):
                raise
            raise device_error(error) or InputError(_refusal(x, error), remedy=_remedy(x)) from error
        # A network may switch gradients on by itself.
        return checked_logits(named_logits(outputs), len(x)).detach().to(self.dtype)


def checked_logits(outputs: object, count: int) -> Tensor:
    """Return a network's outputs for `count` images if they are logits `(B, K)`, K >= 2. Raises InputError."""
    if not isinstance(outputs, Tensor):
        problem = f"the model returns {type(outputs).__name__} for {count} images"
        raise InputError(problem, remedy=OUTPUTS_REMEDY)
    if outputs.dim() != 2 or len(outputs) != count or outputs.shape[1] < 2:
        problem = f"the model returns {tuple(outputs.shape)} for {count} images"
        raise InputError(problem, remedy="it must return logits (B, K)")
    if outputs.layout != torch.strided or outputs.is_quantized or not outputs.is_floating_point():
        kind = "sparse" if outputs.layout != torch.strided else "quantized" if outputs.is_quantized else "no"
        problem = f"the model returns {kind} floats ({str(outputs.dtype).removeprefix('torch.')})"
        raise InputError(problem, remedy="it must return logits (B, K) as a dense tensor of floats")
    return outputs


def _refusal(x: Tensor, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The interpreter of TorchScript puts its own traceback first.
    reason = lines[-1 if "TorchScript" in str(error) else 0] if lines else ""
    shape = "x".join(map(str, x.shape[1:]))
    text = f"{type(error).__name__}: {reason[:200]}" if reason else type(error).__name__
    return f"the model cannot classify {len(x)} images of {shape}: {text}"


def _remedy(x: Tensor) -> str:
    if x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        return "images are (N, C, H, W): pass images.permute(0, 3, 1, 2)"
    return "it must map (B, C, H, W) to logits (B, K) for any B; check the images' size and channels"


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


def _has(network: nn.Module, device: torch.device, dtype: torch.dtype) -> bool:
    tensors = [*network.parameters(), *network.buffers()]
    return all(t.device == device and (t.dtype == dtype or not t.is_floating_point()) for t in tensors)
