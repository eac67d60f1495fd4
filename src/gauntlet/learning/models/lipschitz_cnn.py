"""1-Lipschitz network of the HKR experiments: constrained layers, exported to plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.constraints import ConstrainedLayers
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
from gauntlet.learning.models.layers.projected import ProjectedConv2d, ProjectedLinear
from gauntlet.learning.models.lipschitz import LipschitzNetwork, effective_weight
from gauntlet.registry import MODELS, NonNegativeInt, PositiveFloat, PositiveInt

_ACTIVATIONS = {"group_sort": GroupSort2, "full_sort": FullSort}
_POOLINGS = {"l2_norm": L2NormPool2d, "average": ScaledAvgPool2d}


@MODELS.register(
    "lipschitz_cnn",
    outputs=("logits",),
    lipschitz=True,
    normalize="none",
    source="Serrurier et al. 2021, arXiv:2006.06520; deel-torchlip",
)
class LipschitzCnn(LipschitzNetwork):
    """Twice conv3x3, activation, pooling; flatten, dense(hidden), activation, dense(K) without bias: all 1-Lipschitz.

    The `constraint` is ``spectral`` (singular values close to 1, by power iteration and at most `bjorck_iterations` of
    Björck's iteration), ``frobenius`` (division by the Frobenius norm) or ``projection`` (plain layers, orthonormalized
    after every step); see `learning.models.constraints`. The output is ``joint`` (the vector of logits is 1-Lipschitz)
    or ``disjoint`` (rows of norm 1: each logit is 1-Lipschitz). By default pixels are not normalized, and the network
    is 1-Lipschitz in pixels of [0, 1]; else its constant is 1 over the smallest standard deviation of `normalize`.
    Widths and `hidden` must be even for ``group_sort``.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        widths: tuple[PositiveInt, PositiveInt] = (16, 32),
        hidden: PositiveInt = 64,
        activation: Literal["group_sort", "full_sort"] = "group_sort",
        pooling: Literal["l2_norm", "average"] = "l2_norm",
        output: Literal["joint", "disjoint"] = "joint",
        constraint: Literal["spectral", "frobenius", "projection"] = "spectral",
        bjorck_iterations: NonNegativeInt = 15,
        eps_bjorck: PositiveFloat = 1e-3,
        eps_spectral: PositiveFloat = 1e-3,
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < 4:
            raise InputError(f"needs images of 4x4 pixels or more, these are {height}x{width}", where="model.name")
        if activation == "group_sort" and any(number % 2 for number in (*widths, hidden)):
            problem = f"group_sort sorts pairs of channels, so {[*widths, hidden]} must be even"
            raise InputError(problem, where="model.widths", remedy="use even numbers")
        sort, pool = _ACTIVATIONS[activation], _POOLINGS[pooling]
        first, second = widths
        layers = ConstrainedLayers(constraint, bjorck_iterations, eps_bjorck, eps_spectral)
        body = nn.Sequential(
            layers.convolution(channels, first),
            sort(),
            pool(),
            layers.convolution(first, second),
            sort(),
            pool(),
            nn.Flatten(),
            layers.dense(second * (height // 4) * (width // 4), hidden),
            sort(),
        )
        if output == "joint":
            last = layers.dense(hidden, num_classes, bias=False)
        else:
            last = layers.disjoint(hidden, num_classes)
        super().__init__(normalization=Normalization(mean, std), body=body, last=last, output=output)

    def train(self, mode: bool = True) -> LipschitzCnn:
        """Switch between training and evaluation.

        On leaving training mode spectral layers are orthonormalized once more. In evaluation they use the matrices of
        the last forward pass, which would be those before the last optimizer step.
        """
        if self.training and not mode:
            with torch.no_grad():
                for layer in self.modules():
                    if isinstance(layer, nn.Conv2d | nn.Linear):
                        _ = layer.weight
        super().train(mode)
        return self

    def after_step(self) -> None:
        """Project the weights that the optimizer has moved out of the constraint."""
        for layer in self.modules():
            if isinstance(layer, ProjectedConv2d | ProjectedLinear):
                layer.project()

    def export(self) -> LipschitzNetwork:
        """Return a network of plain convolutions and dense layers with the same outputs in evaluation."""
        body = nn.Sequential(*(_plain(layer) for layer in self.body))
        normalization = Normalization(
            self.normalization.mean.flatten().tolist(), self.normalization.std.flatten().tolist()
        )
        exported = LipschitzNetwork(
            normalization=normalization, body=body, last=_plain(self.head.layer), output=self.output
        )
        exported.to(self.normalization.mean.device)
        exported._describe_export_of(self)
        return exported.train(self.training)


def _plain(layer: nn.Module) -> nn.Module:
    """Return a plain layer equal to a constrained one in evaluation; other layers have no state and are rebuilt."""
    plain: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        bias = layer.bias is not None
        plain = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding, bias=bias)  # type: ignore[arg-type]
    elif isinstance(layer, nn.Linear):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    else:
        return type(layer)()
    with torch.no_grad():
        plain.weight.copy_(effective_weight(layer))
        if plain.bias is not None and layer.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain
