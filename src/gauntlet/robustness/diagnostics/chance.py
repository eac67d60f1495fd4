"""Check of the clean accuracy against a model that ignores its images."""

from __future__ import annotations

from scipy import special
from torch import Tensor

from gauntlet.robustness.diagnostics.measurements import MAX_SAMPLES, Measurement

CHECK = "accuracy_at_chance"


def compare_with_chance(correct: Tensor, labels: Tensor) -> Measurement:
    """Measure how likely as many correct answers are for a model that always gives the most frequent label.

    `correct` bool `(N,)` and `labels` int64 `(N,)` are those of the images looked at. The value is the p-value of the
    exact binomial test, one-sided. Robust accuracy of a model at chance says nothing, whatever the attacks do.
    """
    total, right = len(labels), int(correct.sum())
    most = int(labels.bincount().max())
    if most == total:
        return Measurement.not_applicable(CHECK, None, "all images have the same label")
    value = float(special.bdtrc(right - 1, total, most / total)) if right else 1.0
    evidence = (
        f"{right} of {total} images are classified correctly; the most frequent label alone would be right on {most},"
        f" and on {right} or more of as many images with a probability of {value:.2g}"
    )
    samples = correct.nonzero()[:MAX_SAMPLES, 0].tolist()
    return Measurement(CHECK, None, value, right, evidence, tuple(samples), total)
