"""1-Lipschitz network of the HKR experiments: constrained layers, exported to plain ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.constraints import ConstrainedLayers
from gauntlet.learning.models.layers.batch_lip_norm import batch_lip_norm as build_batch_lip_norm
from gauntlet.learning.models.layers.batch_lip_norm import is_batch_lip_norm, settle
from gauntlet.learning.models.layers.full_sort import FullSort
from gauntlet.learning.models.layers.group_sort import GroupSort2
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.layers.pooling import L2NormPool2d, ScaledAvgPool2d
from gauntlet.learning.models.layers.projected import ProjectedConv2d, ProjectedLinear
from gauntlet.learning.models.layers.residual import Mixture, ResidualBlock, build_residual
from gauntlet.learning.models.lipschitz import LipschitzNetwork, effective_weight
from gauntlet.registry import MODELS, NonNegativeInt, PositiveFloat, PositiveInt

_ACTIVATIONS = {"group_sort": GroupSort2, "full_sort": FullSort}
_POOLINGS = {"l2_norm": L2NormPool2d, "average": ScaledAvgPool2d}
_LAYERS_WITH_WEIGHTS = 4


@MODELS.register(
    "lipschitz_cnn",
    outputs=("logits",),
    lipschitz=True,
    smallest_side=4,
    even={"activation": "group_sort", "options": ("widths", "hidden")},
    normalize="none",
    source="Serrurier et al. 2021, arXiv:2006.06520; deel-torchlip",
)
class LipschitzCnn(LipschitzNetwork):
    """Twice conv3x3, activation, pooling; flatten, dense(hidden), activation, dense(K): all 1-Lipschitz.

    The `constraint` is ``spectral`` (singular values close to 1, by power iteration and at most `bjorck_iterations` of
    Björck's iteration), ``frobenius`` (division by the Frobenius norm) or ``projection`` (plain layers, orthonormalized
    after every step); see `learning.models.constraints`. The output is ``joint`` (the vector of logits is 1-Lipschitz)
    or ``disjoint`` (rows of norm 1: each logit is 1-Lipschitz), with a bias if `output_bias` is set. With `k_coef_lip`
    k each of the four layers with weights is multiplied by the fourth root of k, and the network is k-Lipschitz. By
    default pixels are not normalized; else the constant is divided by the smallest standard deviation of `normalize`.
    Widths and `hidden` must be even for ``group_sort``.

    After each pooling there are `residual_blocks` weighted means of their input and of conv3x3, activation
    (deel-torchlip's LipResidual), which keep the constant. With `batch_lip_norm` each convolution is followed by
    deel-torchlip's BatchLipNorm, whose scale is measured on the data: the constant is then computed from the weights
    alone, and may be above or below `k_coef_lip`.
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
        output_bias: bool = False,
        constraint: Literal["spectral", "frobenius", "projection"] = "spectral",
        bjorck_iterations: NonNegativeInt = 15,
        eps_bjorck: PositiveFloat = 1e-3,
        eps_spectral: PositiveFloat = 1e-3,
        k_coef_lip: PositiveFloat = 1.0,
        residual_blocks: NonNegativeInt = 0,
        batch_lip_norm: bool = False,
    ) -> None:
        channels, height, width = image_shape
        if min(height, width) < 4:
            problem = f"needs images of 4x4 pixels or more, these are {height}x{width}"
            raise InputError(problem, where="model.name", remedy="use `cnn`")
        if activation == "group_sort" and any(number % 2 for number in (*widths, hidden)):
            problem = f"group_sort sorts pairs of channels, so {[*widths, hidden]} must be even"
            raise InputError(problem, where="model.widths", remedy="use even numbers")
        sort, pool = _ACTIVATIONS[activation], _POOLINGS[pooling]
        stops = bjorck_iterations, eps_bjorck, eps_spectral
        layers = ConstrainedLayers(constraint, *stops, factor=k_coef_lip ** (1 / _LAYERS_WITH_WEIGHTS))
        # The mean of a block is 1-Lipschitz, and k times a mean is not the mean with k times the layer.
        unscaled = ConstrainedLayers(constraint, *stops)

        def convolution(factory: ConstrainedLayers, in_channels: int, out_channels: int) -> list[nn.Module]:
            norm = [build_batch_lip_norm(out_channels)] if batch_lip_norm else []
            return [factory.convolution(in_channels, out_channels), *norm, sort()]

        stages: list[nn.Module] = []
        for in_channels, out_channels in pairwise((channels, *widths)):
            stages += [*convolution(layers, in_channels, out_channels), pool()]
            for _ in range(residual_blocks):
                block = nn.Sequential(*convolution(unscaled, out_channels, out_channels))
                stages.append(ResidualBlock(block, build_residual()))
        in_features = widths[-1] * (height // 4) * (width // 4)
        body = nn.Sequential(*stages, nn.Flatten(), layers.dense(in_features, hidden), sort())
        if output == "joint":
            last = layers.dense(hidden, num_classes, bias=output_bias)
        else:
            last = layers.disjoint(hidden, num_classes, bias=output_bias)
        super().__init__(
            normalization=Normalization(mean, std),
            body=body,
            last=last,
            output=output,
            constrained_to=0.0 if batch_lip_norm else k_coef_lip,
        )
        # One step of the power iterations before the first pass, which then divides by a closer estimate.
        self.eval().train()

    @property
    def samples_are_independent(self) -> bool:
        """False with batch statistics."""
        return not any(map(is_batch_lip_norm, self.modules()))

    def train(self, mode: bool = True) -> LipschitzCnn:
        """Switch between training and evaluation.

        On leaving training mode spectral layers are orthonormalized once more, since in evaluation they use the
        matrices of the last forward pass, which would be those before the last optimizer step; and batch statistics are
        averaged over the epoch.
        """
        if self.training and not mode:
            with torch.no_grad():
                for layer in self.modules():
                    if isinstance(layer, nn.Conv2d | nn.Linear):
                        _ = layer.weight
                    elif is_batch_lip_norm(layer):
                        settle(layer)
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
            normalization=normalization,
            body=body,
            last=_plain(self.head.layer),
            output=self.output,
            constrained_to=self.constrained_to,
        )
        exported.to(self.normalization.mean.device)
        exported._describe_export_of(self)
        return exported.train(self.training)


def _plain(layer: nn.Module) -> nn.Module:
    """Return a plain layer equal to a constrained one in evaluation; other layers have no state and are rebuilt."""
    plain: nn.Conv2d | nn.Linear
    if is_batch_lip_norm(layer):
        return settle(layer)
    if isinstance(layer, ResidualBlock):
        mixture = Mixture().to(layer.mixture.alpha.device)  # type: ignore[arg-type]
        mixture.alpha.copy_(layer.mixture.alpha.detach())  # type: ignore[operator]
        return ResidualBlock(nn.Sequential(*map(_plain, layer.layers)), mixture)
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
