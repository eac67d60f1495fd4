"""Square: its windows, schedule and cost, and its results where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from gauntlet.core.geometry import Ball, distances
from gauntlet.core.randomness import uniform
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.square import _Bumps, _share, _Squares, square
from tests.support.attack_problems import Problem, affine_problem

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.rand(20, 3, 9, 7, generator=RANDOM)
KEYS = torch.arange(20)


def test_the_window_share_is_the_published_schedule() -> None:
    """0.8 of the image up to step 10, half until 50, ... 1/512 of it after 8000, scaled to other budgets."""
    assert [_share(query, 10_000, 0.8) for query in (0, 10, 11, 50, 51, 9999)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.8 / 512]
    assert [_share(query, 100, 0.8) for query in (0, 1, 99)] == [0.8, 0.2, 0.8 / 512]


def test_one_square_of_one_color_changes() -> None:
    """In L-infinity a proposal differs in one window of the given side, at the ball's corners."""
    ball = Ball(IMAGES, 0.1, "linf")
    best = _Squares().start(ball, KEYS, stream="s")
    assert ((best == ball.low) | (best == ball.high)).all()
    assert (best - IMAGES)[:, :, 0].sign().equal((best - IMAGES)[:, :, 8].sign())
    draws = uniform(KEYS, (8,), stream="step", dtype=torch.float64)
    found = _Squares().propose(ball, best, draws, 0.15)
    changed = (found != best).any(1)
    assert changed.flatten(1).any(1).all()
    assert (changed.any(2).sum(1) <= 3).all()
    assert (changed.any(1).sum(1) <= 3).all()
    assert ((found == ball.low) | (found == ball.high)).all()


def test_no_query_repeats_the_present_color() -> None:
    """Each proposal changes even a single gray pixel, up to the last row and column."""
    ball = Ball(torch.full((200, 1, 4, 4), 0.5), 0.1, "linf")
    keys = torch.arange(200)
    best = _Squares().start(ball, keys, stream="s")
    found = _Squares().propose(ball, best, uniform(keys, (6,), stream="step", dtype=torch.float64), 0.01)
    changed = (found != best)[:, 0]
    assert (changed.flatten(1).sum(1) == 1).all()
    assert changed.any(0).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("size", [(3, 9, 7), (1, 28, 28), (1, 4, 4), (2, 2, 3)])
def test_proposals_in_l2_have_length_epsilon(size: tuple[int, int, int], norm: str) -> None:
    """Far from the box, pixels outside the two windows are only rescaled."""
    ball = Ball(torch.full((20, *size), 0.5), 0.4, norm)
    best = _Bumps(norm).start(ball, KEYS, stream="s")
    draws = uniform(KEYS, (5 + size[0],), stream="step", dtype=torch.float64)
    found = _Bumps(norm).propose(ball, best, draws, 0.05)
    for images in (best, found):
        length = distances(images - 0.5)[norm]
        # In L1 every pixel is rounded towards its origin.
        lost = 1e-5 + (math.prod(size) * 2**-24 if norm == "l1" else 0.0)
        assert ((length >= 0.4 - lost) & (length <= 0.4 + 1e-5)).all()
    assert (found != best).flatten(1).any(1).all()


def test_a_bump_has_length_one_and_two_sides() -> None:
    """The upper part is positive, the lower negative, and the middle of each the strongest."""
    bump = _Bumps("l2")._eta(7, IMAGES)
    assert float(bump.norm()) == pytest.approx(1.0)
    assert (bump[:3] > 0).all()
    assert (bump[3:] < 0).all()
    assert bump[1].argmax() == 3


@pytest.mark.parametrize(("norm", "factor"), [("linf", 1.1), ("l2", 1.6), ("l1", 1.6)])
@pytest.mark.parametrize("shape", [(1, 8, 8), (4, 4, 4)])
def test_it_comes_near_the_boundary_between_two_classes(norm: str, factor: float, shape: tuple[int, int, int]) -> None:
    """Within 1000 queries every sample of an affine problem is fooled near the exact distance."""
    problem = affine_problem(2, shape)
    optimum = problem.network.nearest(problem.images, problem.labels, norm)  # type: ignore[operator]
    rows = problem.run("square", norm, (float(optimum.max()) * factor,), options={"queries": 1000}).rows
    assert rows["status"].to_pylist() == ["adversarial"] * 7


def test_a_query_is_a_forward_and_a_fooled_sample_costs_nothing_more(convolutional: Problem) -> None:
    """Robust samples cost `queries` forwards per restart and no backward, others fewer."""
    rows = convolutional.run("square", "linf", (0.03,), options={"queries": 30, "restarts": 2}).rows.to_pandas()
    assert (rows["backwards"] == 0).all()
    assert (rows.loc[rows["status"] == "robust", "forwards"] == 60).all()
    assert (rows.loc[rows["status"] == "adversarial", "forwards"] < 60).all()
    assert set(rows["status"]) == {"robust", "adversarial", "already_wrong"}


def test_in_a_transfer_it_runs_to_the_end() -> None:
    """No sample leaves, and the sources are fooled with a margin."""
    problem = affine_problem(2, (1, 8, 8))
    model = AttackModel(affine_problem(3, (1, 8, 8)).network, sources=[problem.network])
    model.start_counting(7)
    found = square(model, problem.images, problem.labels, norm="linf", epsilon=0.2, keys=torch.arange(7), queries=50)
    assert (problem.network(found).argmax(1) != problem.labels).all()
    assert model.counts.totals["forwards"].tolist() == [50] * 7
