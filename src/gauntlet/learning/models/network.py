"""The one shape of a network: normalisation, body, head; and the head's contract."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gauntlet.learning.models.layers.ramp import Ramp
from gauntlet.registry import Spec

Surrogate = Callable[[Tensor], Tensor]
"""Differentiable function that attacks may follow in place of the logits, e.g. the code bits before their tanh."""


@dataclass(frozen=True)
class NetworkDescription:
    """What a network is built from: enough to build it again and put stored weights in.

    `mean` and `std` are the data's, per channel in [0, 1]; `exported` says that constrained layers became plain ones.
    """

    architecture: Spec
    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    exported: bool = False


@dataclass(frozen=True)
class LipschitzClaim:
    """A proven bound on how fast a network's logits change, in the L2 norm of pixels in [0, 1].

    ``joint``: ``|f(x) - f(z)|_2 <= constant * |x - z|_2`` for the vector of logits. ``disjoint``: the same for each
    logit alone, ``|f_k(x) - f_k(z)| <= constant * |x - z|_2``.
    """

    constant: float
    norm: Literal["l2"] = "l2"
    head: Literal["joint", "disjoint"] = "joint"


class Head(nn.Module):
    """The end of a network: features to raw outputs, raw outputs to logits.

    Outputs are what a training loss sees. The base class decodes nothing: its outputs are the logits.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to raw outputs."""
        raise NotImplementedError

    def decode(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to logits `(B, K)`."""
        return outputs

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give what the model holds each class to be, in [0, 1], `(B, K)`: the softmax of the logits `(B, K)`."""
        return logits.softmax(1)

    def surrogates(self) -> Mapping[str, Surrogate]:
        """Return the head's surrogates by name: functions of features `(B, F)` with scores `(B, K)`."""
        return {}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a view and an attack's loss that fit this output, best first; ``logits`` is the network itself."""
        return (("logits", "margin"), ("logits", "cross_entropy"))


class LayerHead(Head):
    """A head that is one layer; its outputs are the logits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to logits `(B, K)`."""
        logits: Tensor = self.layer(features)
        return logits


class Network(nn.Module):
    """A classifier of images `(B, C, H, W)` in [0, 1]: normalisation, then body, then head.

    `description` is set by `build` and says how to build the network again. While `ramps_frozen` is set, no ramp
    advances; it is not stored with the weights.
    """

    description: NetworkDescription | None = None
    ramps_frozen: bool = False

    def __init__(self, *, normalization: nn.Module, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.normalization, self.body, self.head = normalization, body, head

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits `(B, K)`."""
        return self.decode(self.outputs(x))

    def features(self, x: Tensor) -> Tensor:
        """Map images to what the head sees: `(B, F)`."""
        features: Tensor = self.body(self.normalization(x)).flatten(1)
        return features

    def outputs(self, x: Tensor) -> Tensor:
        """Map images to the head's raw outputs, which is what a training loss sees."""
        outputs: Tensor = self.head(self.features(x))
        return outputs

    def decode(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to logits `(B, K)`."""
        return self.head.decode(outputs)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Give what the model holds each class to be, in [0, 1], for logits `(B, K)`: the same shape."""
        return self.head.probabilities(logits)

    @property
    def surrogates(self) -> dict[str, Surrogate]:
        """Surrogates by name: functions of images with scores `(B, K)`; ``logits`` is the network itself."""

        def of_images(surrogate: Surrogate) -> Surrogate:
            return lambda x: surrogate(self.features(x))

        return {"logits": self.forward, **{name: of_images(f) for name, f in self.head.surrogates().items()}}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a surrogate and an attack's loss that fit this network's kind of output, best first."""
        return self.head.adaptive

    @property
    def lipschitz(self) -> LipschitzClaim | None:
        """What is proven of the network's Lipschitz constant; None where nothing is."""
        return None

    @property
    def samples_are_independent(self) -> bool:
        """Whether in training no sample's outputs depend on another's: False where a layer uses batch statistics."""
        return not any(isinstance(module, _BatchNorm) for module in self.modules())

    def after_step(self) -> None:
        """Take note that the optimiser made a step: ramps advance; projections are made in others."""
        if not self.ramps_frozen:
            for module in self.modules():
                if isinstance(module, Ramp):
                    module.advance()

    def export(self) -> Network:
        """Give a network of plain layers with equal outputs: itself where nothing is constrained."""
        return self

    def _describe_export_of(self, original: Network) -> None:
        if original.description is not None:
            self.description = replace(original.description, exported=True)
