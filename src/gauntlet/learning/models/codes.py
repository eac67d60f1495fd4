"""Error-correcting output codes: code matrix, probabilities of a received word, and the base class of their heads.

Sources: Verma and Swami 2019 (NeurIPS), "Error correcting output codes improve probability estimation and adversarial
robustness of deep neural networks"; the ops Hadamard and UnHadamard and the layer HadamardCode of FastEstimator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.heads.dense import BuildActivation, dense
from gauntlet.learning.models.network import Head, Surrogate


def code_length(num_classes: int, length: int | None = None) -> int:
    """Return `length`, by default the smallest power of two that is at least the number of classes.

    Raises InputError for a length that is not a power of two, or smaller than the number of classes.
    """
    smallest = 1 << max(1, (num_classes - 1).bit_length())
    if length is None:
        return smallest
    if length < 2 or length & (length - 1):
        problem = f"a code length of {length} is not a power of two"
        raise InputError(problem, where="head.length", remedy=f"choose {smallest} or a larger power of two")
    if length < smallest:
        problem = f"a code of length {length} has too few words for {num_classes} classes"
        raise InputError(problem, where="head.length", remedy=f"choose {smallest} or more, or leave it out")
    return length


def hadamard_code(
    num_classes: int, length: int | None = None, *, first_column: Literal["alternating", "cut"] = "alternating"
) -> Tensor:
    """Return one codeword per class: float32 `(K, L)` of ±1, the first K rows of a Sylvester-Hadamard matrix of size L.

    Any two rows of the matrix differ in exactly L / 2 positions, none of them in the first column, which is constant
    and carries no information. ``cut`` drops this column: L - 1 bits, all distances still L / 2. ``alternating`` sets
    it to -1 in even rows: L bits, and the words of an even and an odd class differ in L / 2 + 1.
    """
    length = code_length(num_classes, length)
    matrix = torch.ones(1, 1)
    while len(matrix) < length:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    if first_column == "cut":
        return matrix[:num_classes, 1:].clone()
    matrix[0::2, 0] = -1
    return matrix[:num_classes].clone()


def log_probabilities(word: Tensor, code: Tensor, *, power: float = 1.0, max_probability: float = 0.99999) -> Tensor:
    """Convert received words (`(B, bits)`, values in [-1, 1]) to log-probabilities `(B, K)` by inverse distance.

    p_k is proportional to ``max(d_k, e) ** -power`` with d_k the L1 distance to codeword k, which is twice the Hamming
    distance between words of ±1. With ``e = (bits + 1) ((1 - p) / (p (K - 1))) ** (1 / power)`` a word equal to a
    codeword has probability p = `max_probability`: exactly if all others are at distance bits + 1, as in a cut code,
    and approximately in an alternating one.
    """
    num_classes, bits = code.shape
    odds = (1 - max_probability) / (max_probability * (num_classes - 1))
    floor = (bits + 1) * odds ** (1 / power)
    distance = (word[:, None, :] - code[None]).abs().sum(-1)  # (B, K)
    return torch.log_softmax(-power * distance.clamp(min=floor).log(), dim=1)


class CodeHead(Head):
    """Dense(hidden), relu, dense(bits), tanh: a received word, decoded by its distances to the codewords.

    With `heads` above 1 the bits are computed by that many independent heads, each with an equal share of `hidden` and
    of the code length; for a cut code the first head has one bit fewer. Raises InputError if the shares are not equal,
    or if `max_probability` is not above chance.
    """

    code: Tensor

    def __init__(
        self,
        code: Tensor,
        *,
        in_features: int,
        hidden: int,
        heads: int,
        power: float,
        max_probability: float,
        activation: BuildActivation | None = None,
    ) -> None:
        super().__init__()
        num_classes, bits = code.shape
        length = bits + bits % 2
        if length % heads or hidden % heads or length // heads <= length - bits:
            problem = f"{heads} heads cannot share {bits} code bits and {hidden} hidden units evenly"
            raise InputError(problem, where="head.heads", remedy="choose a power of two that divides both")
        if max_probability * num_classes <= 1:
            problem = f"{max_probability:g} is not above chance among {num_classes} classes"
            raise InputError(problem, where="head.max_probability", remedy=f"choose more than {1 / num_classes:.3g}")
        self.power, self.max_probability = power, max_probability
        self.register_buffer("code", code)
        shares = [length // heads] * heads
        shares[0] -= length - bits
        self.branches = nn.ModuleList(
            dense(in_features, hidden // heads, share, activation=activation) for share in shares
        )

    def bits(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to the code bits before tanh: `(B, bits)`."""
        return torch.cat([branch(features) for branch in self.branches], dim=1)

    def word(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to the received word `(B, bits)` in (-1, 1)."""
        return torch.tanh(self.bits(features))

    def decode_word(self, word: Tensor) -> Tensor:
        """Map received words `(B, bits)` to log-probabilities `(B, K)`."""
        return log_probabilities(word, self.code, power=self.power, max_probability=self.max_probability)

    def surrogates(self) -> Mapping[str, Surrogate]:
        """Return ``code_bits``: the correlation of the bits before tanh with the codewords."""
        # Gradients through the saturated tanh and the inverse distances of the decoder are uninformative. The
        # correlation of the bits before tanh with the codewords predicts the same class if the bits match a codeword.
        return {"code_bits": lambda features: self.bits(features) @ self.code.T / self.code.shape[1]}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """The bits before tanh first: they have gradients where the decoder's vanish."""
        return (("code_bits", "margin"), ("code_bits", "cross_entropy"), ("logits", "margin"))
