"""The model that most attack tests use."""

from __future__ import annotations

import pytest

from tests.support.attack_problems import Problem, convolutional_problem


@pytest.fixture(scope="session")
def convolutional() -> Problem:
    """A small random network with images at the edges of the box, a fifth of them misclassified."""
    return convolutional_problem()
