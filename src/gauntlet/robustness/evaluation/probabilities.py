"""Class probabilities of the adversarial examples that are kept, and of their originals."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gauntlet.core.randomness import derive_seed
from gauntlet.robustness.evaluation.examples import Examples
from gauntlet.robustness.judge import Judge, class_probabilities, seeded


def example_probabilities(network: nn.Module, examples: Examples, *, device: torch.device, draws: int = 1) -> Examples:
    """Return `clean_probabilities` and `adversarial_probabilities`, float32 `(n, K)`, of n examples; {} without any.

    They are those of the judge, in float32. A random network is seeded, and the mean over `draws` passes counts.
    """
    if not examples:
        return {}
    judge = Judge(network, device=device, draws=draws)
    probabilities: Examples = {}
    for name, images in (("clean", examples["original"]), ("adversarial", examples["adversarial"])):
        with seeded(derive_seed("examples", name), device):
            logits = judge.logits(torch.from_numpy(np.ascontiguousarray(images)))
        found = class_probabilities(judge.network if draws == 1 else None, logits)
        probabilities[f"{name}_probabilities"] = found.to(torch.float32).cpu().numpy()
    return probabilities
