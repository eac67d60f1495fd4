"""Base classes of networks, which consist of normalization, body and head, and of heads."""

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
    """Everything needed to rebuild a network for its stored weights.

    `mean` and `std` are those of the first layer, per channel in [0, 1]; `seed` is the one it was built with;
    `exported` networks have plain layers in place of constrained ones.
    """

    architecture: Spec
    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int = 0
    exported: bool = False


@dataclass(frozen=True)
class LipschitzClaim:
    """Proven Lipschitz constant of a network's logits in the L2 norm of pixels in [0, 1].

    ``joint``: ``|f(x) - f(z)|_2 <= constant * |x - z|_2`` for the vector of logits. ``disjoint``: the same for each
    logit alone, ``|f_k(x) - f_k(z)| <= constant * |x - z|_2``.
    """

    constant: float
    norm: Literal["l2"] = "l2"
    head: Literal["joint", "disjoint"] = "joint"


class Head(nn.Module):
    """Base class of heads, which map features to raw outputs and raw outputs to logits.

    Training losses are functions of the raw outputs. In the base class the raw outputs are the logits.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to raw outputs."""
        raise NotImplementedError

    def decode(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to logits `(B, K)`."""
        return outputs

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the predicted class probabilities `(B, K)` in [0, 1]: the softmax of the logits `(B, K)`."""
        return logits.softmax(1)

    def surrogates(self) -> Mapping[str, Surrogate]:
        """Return the head's surrogates by name: functions of features `(B, F)` with scores `(B, K)`."""
        return {}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a surrogate and an attack loss that suit this head, best first; ``logits`` is the network itself."""
        return (("logits", "margin"), ("logits", "cross_entropy"))


class LayerHead(Head):
    """Head of a single layer; its outputs are the logits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to logits `(B, K)`."""
        logits: Tensor = self.layer(features)
        return logits


class Network(nn.Module):
    """Classifier of images `(B, C, H, W)` in [0, 1]: normalization, body, head.

    `description` is set by `build`, and suffices to rebuild the network. `training_loss` names the loss of a trained
    network, and `training_precision` the precision of its training's passes. While `ramps_frozen` is true, no ramp
    advances; it is not stored with the weights.
    """

    description: NetworkDescription | None = None
    training_loss: Spec | None = None
    training_precision: str | None = None
    ramps_frozen: bool = False

    def __init__(self, *, normalization: nn.Module, body: nn.Module, head: Head) -> None:
        super().__init__()
        self.normalization, self.body, self.head = normalization, body, head

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits `(B, K)`."""
        return self.decode(self.outputs(x))

    def features(self, x: Tensor) -> Tensor:
        """Map images to the features `(B, F)` that the head receives."""
        features: Tensor = self.body(self.normalization(x)).flatten(1)
        return features

    def outputs(self, x: Tensor) -> Tensor:
        """Map images to the head's raw outputs, from which training losses are computed."""
        outputs: Tensor = self.head(self.features(x))
        return outputs

    def decode(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to logits `(B, K)`."""
        return self.head.decode(outputs)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the predicted class probabilities `(B, K)` in [0, 1] for logits `(B, K)`."""
        return self.head.probabilities(logits)

    @property
    def surrogates(self) -> dict[str, Surrogate]:
        """Surrogates by name: functions of images with scores `(B, K)`; ``logits`` is the network itself."""

        def of_images(surrogate: Surrogate) -> Surrogate:
            return lambda x: surrogate(self.features(x))

        return {"logits": self.forward, **{name: of_images(f) for name, f in self.head.surrogates().items()}}

    @property
    def has_one_head(self) -> bool:
        """True if logits and surrogates are functions of `features` by way of `head` alone, as they are by default.

        Attacks then compute both from one pass of `features`, without ``network.__call__``: forward hooks of the
        Network itself do not act on these logits. The judge, which calls the network, decides success in any case.
        """
        own = type(self)
        return (own.forward, own.outputs, own.decode, own.surrogates) == (
            Network.forward,
            Network.outputs,
            Network.decode,
            Network.surrogates,
        )

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a surrogate and an attack loss that suit this network's outputs, best first."""
        return self.head.adaptive

    @property
    def lipschitz(self) -> LipschitzClaim | None:
        """Proven Lipschitz constant; None if nothing is proven."""
        return None

    @property
    def samples_are_independent(self) -> bool:
        """True if in training no sample's outputs depend on other samples, as they do with batch statistics."""
        return not any(isinstance(module, _BatchNorm) for module in self.modules())

    @property
    def ramps_rising(self) -> bool:
        """True while a ramp has not reached its full strength."""
        return any(isinstance(module, Ramp) and module.rising for module in self.modules())

    def after_step(self) -> None:
        """Update the network after an optimizer step: ramps advance; subclasses may also project weights."""
        if not self.ramps_frozen:
            for module in self.modules():
                if isinstance(module, Ramp):
                    module.advance()

    def export(self) -> Network:
        """Return a network of plain layers with equal outputs: itself if no layer is constrained."""
        return self

    def _describe_export_of(self, original: Network) -> None:
        self.training_loss, self.training_precision = original.training_loss, original.training_precision
        if original.description is not None:
            self.description = replace(original.description, exported=True)
