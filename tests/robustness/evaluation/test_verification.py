"""Checks of the images that an attack returns."""

from __future__ import annotations

import pytest
import torch

from gauntlet.robustness.evaluation.verification import find_invalid

CLEAN = torch.full((1, 1, 350, 350), 0.5)


def changed(count: int, amount: float) -> torch.Tensor:
    """Return the image with `count` values changed by an amount."""
    flat = CLEAN.flatten(1).clone()
    flat[:, :count] += amount
    return flat.view_as(CLEAN)


@pytest.mark.parametrize(("count", "valid"), [(100_000, True), (100_001, False)])
def test_a_number_of_values_has_no_tolerance(count: int, valid: bool) -> None:
    """In L0 one value more than the budget is too many, however large the budget."""
    assert (find_invalid(CLEAN, changed(count, 0.1), norm="l0", epsilon=100_000.0) == {}) is valid


@pytest.mark.parametrize(("amount", "valid"), [(0.1, True), (0.1000005, True), (0.10001, False)])
def test_other_distances_may_exceed_the_budget_by_rounding(amount: float, valid: bool) -> None:
    """By a relative 1e-5 and 1e-6."""
    assert (find_invalid(CLEAN, changed(5, amount), norm="linf", epsilon=0.1) == {}) is valid
