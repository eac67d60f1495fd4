"""Logits of a network that returns them by name, among other outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

_NAME = "logits"

OUTPUTS_REMEDY = f"return the logits (B, K) alone, or as `{_NAME}` of a mapping, dataclass or named tuple"
"""Remedy for a network that returns anything else."""


def named_logits(outputs: Any) -> Any:
    """Return what a mapping, dataclass or named tuple holds as `logits`; any other outputs as they are.

    So do the outputs of Hugging Face's classifiers, and of torchvision's GoogLeNet and Inception in training mode.
    """
    if isinstance(outputs, Mapping):
        return outputs.get(_NAME, outputs)
    named = dataclasses.is_dataclass(outputs) or (isinstance(outputs, tuple) and hasattr(outputs, "_fields"))
    return getattr(outputs, _NAME, outputs) if named else outputs
