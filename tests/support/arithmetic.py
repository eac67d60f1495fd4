"""The settings of torch that decide how float32 is multiplied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

IEEE = [*["ieee"] * 6, "highest", False, False, False, False]
"""The settings under which every product is IEEE float32."""


def arithmetic() -> list[Any]:
    """Return torch's settings: CUDA's products, convolutions and recurrent layers, the CPU's, the older setting.

    Then whether sums of half-precision products may be short (three settings), and attention in several TF32 parts.
    """
    backends: Any = torch.backends
    operations = (
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.rnn,
    )
    return [
        *(operation.fp32_precision for operation in operations),
        torch.get_float32_matmul_precision(),
        backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        backends.cuda.matmul.allow_fp16_accumulation,
        backends.cuda.mem_efficient_sdp_enabled(),
    ]


class Observed(nn.Module):
    """A linear network that records the settings of each pass, and whether it took gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 4)
        self.passes: list[tuple[bool, list[Any]]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        self.passes.append((x.requires_grad or self.training, arithmetic()))
        logits: Tensor = self.linear(x.flatten(1))
        return logits

    def __deepcopy__(self, memo: dict[int, Any]) -> Observed:
        """Copy the weights; all copies share the record."""
        copy = Observed()
        copy.load_state_dict(self.state_dict())
        copy.passes = self.passes
        return copy.train(self.training)
