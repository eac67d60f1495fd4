"""Class probabilities of the adversarial examples that are kept, and of their originals."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from gauntlet.robustness.evaluation.examples import Examples
from gauntlet.robustness.judge import Judge
from gauntlet.robustness.preflight import needed_draws


def example_probabilities(network: nn.Module, examples: Examples, *, device: torch.device, draws: int = 1) -> Examples:
    """Return `clean_probabilities` and `adversarial_probabilities`, float32 `(n, K)`, of n examples; {} without any.

    They are those of the judge, in float32, which decided about these images: for a random network, by its mean.
    """
    if not examples:
        return {}
    images = {name: torch.from_numpy(np.ascontiguousarray(examples[name])) for name in ("original", "adversarial")}
    judge = Judge(network, device=device, draws=needed_draws(draws, (network,), images["original"], device=device))
    probabilities: Examples = {}
    for name, batch in (("clean", images["original"]), ("adversarial", images["adversarial"])):
        found = judge.probabilities(judge.logits(batch))
        probabilities[f"{name}_probabilities"] = found.to(torch.float32).cpu().numpy()
    return probabilities
