"""Error-correcting output codes as a layer that replaces softmax, trained with cross-entropy."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.codes import CodeHead, hadamard_code
from gauntlet.learning.models.heads.dense import BuildActivation
from gauntlet.registry import HEADS, NonNegativeInt, OpenFraction, PositiveFloat, PositiveInt, PowerOfTwo


@HEADS.register(
    "hadamard_code",
    outputs=("logits",),
    code="cut",
    surrogates=("code_bits",),
    source="Verma and Swami 2019, NeurIPS; the layer HadamardCode of FastEstimator",
)
class HadamardCodeHead(CodeHead):
    """Code layer: dense(hidden), relu, dense(L - 1), tanh, then log-probabilities by distance to the codewords.

    The constant first column of the code is dropped. No class has a probability above `max_probability`; a large
    `power` sharpens the probabilities between codewords. `length` is L, a power of two, by default the smallest that is
    at least the number of classes (in FastEstimator at least 16). With `heads` above 1 the bits are computed by that
    many independent heads, each with its share of `hidden` and of L, the first with one bit fewer.
    """

    def __init__(
        self,
        *,
        in_features: int,
        num_classes: int,
        hidden: NonNegativeInt = 64,
        heads: PositiveInt = 1,
        length: PowerOfTwo | None = None,
        power: PositiveFloat = 1.0,
        max_probability: OpenFraction = 0.95,
        activation: BuildActivation | None = None,
    ) -> None:
        code = hadamard_code(num_classes, length, first_column="cut")
        super().__init__(
            code,
            in_features=in_features,
            hidden=hidden,
            heads=heads,
            power=power,
            max_probability=max_probability,
            activation=activation,
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features `(B, F)` to log-probabilities `(B, K)`, which are logits of the same probabilities."""
        return self.decode_word(self.word(features))
