"""The adversarial examples that are kept: their choice does not depend on the parts, and their probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gauntlet.robustness.evaluation.examples import candidate_positions, select_examples
from gauntlet.robustness.evaluation.probabilities import example_probabilities


def examples(count, classes, seed=0):
    """Draw fooled samples with gaps between their indices."""
    draw = np.random.default_rng(seed)
    return {
        "index": np.sort(draw.permutation(3 * count)[:count]),
        "label": draw.integers(0, classes, count).astype(np.int32),
        "ratio": draw.uniform(0, 1, count).astype(np.float32),
    }


@pytest.mark.parametrize("classes", [1, 3, 10, 1000])
@pytest.mark.parametrize("keep", [1, 7, 32])
def test_the_choice_does_not_depend_on_the_parts(classes, keep):
    """Candidates of parts of any size, in any order, give the same examples as all samples at once."""

    def candidates(part: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        positions = candidate_positions(part, keep)
        assert len(positions) <= 3 * keep
        return {name: values[positions] for name, values in part.items()}

    every = examples(200, classes)
    whole = select_examples([every], keep)
    assert len(whole["index"]) == keep
    assert np.array_equal(whole["index"], np.sort(whole["index"]))
    for cuts in ([50, 51, 120], range(1, 200), [199]):
        parts = [
            {name: values[start:stop] for name, values in every.items()}
            for start, stop in zip([0, *cuts], [*cuts, 200], strict=True)
        ]
        joined = select_examples([candidates(part) for part in reversed(parts)], keep)
        assert all(np.array_equal(joined[name], whole[name]) for name in every)


def test_every_class_is_kept_if_there_is_room():
    """The first fooled sample of each class is among them, also of a class that comes last."""
    every = examples(300, 9)
    every["label"] = np.where(every["label"] == 4, 5, every["label"])
    every["label"][-1] = 4
    kept = select_examples([every], 32)
    for label in range(9):
        first = every["index"][every["label"] == label].min()
        assert first in kept["index"]


def test_probabilities_are_those_of_the_network():
    """A random network gives the same ones again, the mean of its draws."""
    torch.manual_seed(0)
    images = {name: np.random.default_rng(1).uniform(0, 1, (3, 1, 2, 2)).astype(np.float32) for name in ("a", "b")}
    kept = {"original": images["a"], "adversarial": images["b"]}
    linear = nn.Sequential(nn.Flatten(), nn.Linear(4, 5))
    found = example_probabilities(linear, kept, device=torch.device("cpu"))
    for name, image in (("clean", images["a"]), ("adversarial", images["b"])):
        expected = linear(torch.from_numpy(image)).softmax(1).detach()
        assert np.allclose(found[f"{name}_probabilities"], expected, atol=1e-6)
    assert example_probabilities(linear, {}, device=torch.device("cpu")) == {}

    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return linear(x + torch.randn_like(x))

    first, again = (example_probabilities(Noisy(), kept, device=torch.device("cpu"), draws=50) for _ in range(2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert np.allclose(first["clean_probabilities"].sum(1), 1, atol=1e-5)
    assert not np.allclose(first["clean_probabilities"], found["clean_probabilities"], atol=1e-3)
