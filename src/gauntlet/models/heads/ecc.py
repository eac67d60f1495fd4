"""Error-correcting output codes, read by a hinge loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gauntlet.errors import InputError
from gauntlet.models.codes import hadamard_code, log_probabilities
from gauntlet.models.heads.dense import dense
from gauntlet.models.network import Head, View
from gauntlet.registry import HEADS, NonNegativeInt, PositiveInt


@HEADS.register("ecc", outputs=("codes",), views=("code_bits",), source="Verma and Swami 2019, NeurIPS")
class EccHead(Head):
    """Error-correcting output code: dense(hidden), relu, dense(L), tanh; L bits, decoded by distance to the codewords.

    With `heads` above 1 the bits come from so many independent heads, each with its share of `hidden` and of L
    (the source's HydraEcc: 4 heads of dense(16), relu, dense(4)).
    """

    code: Tensor

    def __init__(
        self, *, in_features: int, num_classes: int, hidden: NonNegativeInt = 64, heads: PositiveInt = 1
    ) -> None:
        super().__init__()
        self.register_buffer("code", hadamard_code(num_classes))
        length = self.code.shape[1]
        if length % heads or hidden % heads:
            problem = f"{heads} heads cannot share {length} code bits and {hidden} hidden units evenly"
            raise InputError(problem, where="head.heads", remedy="choose a power of two that divides both")
        branches = [dense(in_features, hidden // heads, length // heads) for _ in range(heads)]
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to code bits `(B, L)` in (-1, 1)."""
        return torch.tanh(self.bits(features))

    def bits(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to the code bits before tanh: `(B, L)`."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)

    def decode(self, outputs: Tensor) -> Tensor:
        """Map code bits `(B, L)` to log-probabilities `(B, K)`."""
        return log_probabilities(outputs, self.code)

    def views(self) -> Mapping[str, View]:
        """Offer ``code_bits``: correlation of the bits before tanh with the codewords."""
        # The tanh saturates and the decoder divides by distances: gradients through both say little. The correlation
        # of the bits before tanh with the codewords has the same winner wherever the bits agree with a codeword.
        return {"code_bits": lambda features: self.bits(features) @ self.code.T / self.code.shape[1]}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """The bits before tanh first: they have gradients where the decoder has none."""
        return (("code_bits", "margin"), ("code_bits", "cross_entropy"), ("logits", "margin"))
