"""The choice among models by validation figures."""

from __future__ import annotations

import pytest

from gauntlet.learning.training.choice import ValidationFigures, best_candidate, mean_score


def test_a_mean_over_seeds_needs_the_figure_of_every_seed():
    """A candidate that lacks one has no score, rather than that of its other seeds."""
    figures = [ValidationFigures(1, validation_loss=loss) for loss in (0.25, 0.75)]
    assert mean_score(figures, "validation_loss") == 0.5
    assert mean_score([*figures, ValidationFigures(1)], "validation_loss") is None
    assert mean_score(figures, "validation_accuracy") is None


@pytest.mark.parametrize(("by", "best"), [("validation_loss", "b"), ("validation_accuracy", "c")])
def test_the_lowest_loss_or_the_highest_accuracy_is_best(by, best):
    """The first of equals; a candidate without a score never."""
    assert best_candidate({"a": None, "b": 0.25, "c": 0.75, "d": 0.25, "e": 0.75}, by) == best
    assert best_candidate({"a": None}, by) is None
