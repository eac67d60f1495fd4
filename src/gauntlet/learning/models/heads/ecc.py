"""Error-correcting output codes, trained with a hinge loss."""

from __future__ import annotations

from torch import Tensor

from gauntlet.learning.models.codes import CodeHead, hadamard_code
from gauntlet.learning.models.heads.dense import BuildActivation
from gauntlet.registry import HEADS, NonNegativeInt, OpenFraction, PositiveFloat, PositiveInt, PowerOfTwo


@HEADS.register(
    "ecc", outputs=("codes",), code="whole", surrogates=("code_bits",), source="Verma and Swami 2019, NeurIPS"
)
class EccHead(CodeHead):
    """Error-correcting output code: dense(hidden), relu, dense(L), tanh; L bits, decoded by distance to the codewords.

    With `heads` above 1 the bits are computed by that many independent heads, each with its share of `hidden` and of L
    (HydraEcc of FastEstimator: 4 heads of dense(16), relu, dense(4)). `length` is L, a power of two, by default the
    smallest that is at least the number of classes. `power` and `max_probability` are options of the decoder, and do
    not affect training losses, which are functions of the code bits.
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
        max_probability: OpenFraction = 0.99999,
        activation: BuildActivation | None = None,
    ) -> None:
        code = hadamard_code(num_classes, length)
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
        """Map features `(B, F)` to code bits `(B, L)` in (-1, 1)."""
        return self.word(features)

    def decode(self, outputs: Tensor) -> Tensor:
        """Map code bits `(B, L)` to log-probabilities `(B, K)`."""
        return self.decode_word(outputs)
