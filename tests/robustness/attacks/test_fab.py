"""FAB and its projection onto a hyperplane inside the box."""

from __future__ import annotations

import pytest
import torch

from gauntlet.core.geometry import distances
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.fab import FAB, to_hyperplane
from tests.support.attack_problems import Problem, affine_problem

RANDOM = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_projection_onto_a_hyperplane_is_the_shortest_inside_the_box(norm: str) -> None:
    """It ends on the hyperplane in the box, and none of many other points is nearer."""
    point = torch.rand(40, 1, 2, 3, generator=RANDOM, dtype=torch.float64)
    point[::4] = point[::4].round()
    normal = torch.randn(40, 1, 2, 3, generator=RANDOM, dtype=torch.float64)
    normal[5:, :, 0, 0] = 0.0
    aim = torch.rand(40, 1, 2, 3, generator=RANDOM, dtype=torch.float64)  # a point of the box on the hyperplane
    value = -(normal * (aim - point)).flatten(1).sum(1)
    way = to_hyperplane(point, normal, value, norm)
    end = point + way
    assert ((end >= -1e-12) & (end <= 1 + 1e-12)).all()
    assert torch.allclose(value + (normal * way).flatten(1).sum(1), torch.zeros(40, dtype=torch.float64), atol=1e-9)
    length = distances(way)[norm]
    for _ in range(2000):
        other = torch.rand(point.shape, generator=RANDOM, dtype=torch.float64) - point
        # Of a segment from the point into the box, the part that ends on the hyperplane.
        gain = (normal * other).flatten(1).sum(1)
        share = -value / gain
        reaches = (share >= 0) & (share <= 1)
        assert (distances(other * share[:, None, None, None])[norm][reaches] >= length[reaches] - 1e-9).all()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_hyperplane_out_of_reach_leads_to_the_nearest_corner(norm: str) -> None:
    """If the box does not reach the hyperplane, every pixel moves to the end of its range."""
    point = torch.full((1, 1, 1, 3), 0.25)
    way = to_hyperplane(point, torch.tensor([[[[1.0, -2.0, 0.0]]]]), torch.tensor([-10.0]), norm)
    assert torch.allclose((point + way).flatten(), torch.tensor([1.0, 0.0, 0.25]))


def test_the_search_stops_at_a_sufficient_distance() -> None:
    """A sufficient distance costs less than the search for the minimum."""
    problem = affine_problem(5, (1, 8, 8))
    distance = problem.network.nearest(problem.images, problem.labels, "l2")  # type: ignore[operator]
    costs = []
    for enough in (0.0, float(distance.max()) * 1.2):
        model = AttackModel(problem.network)
        model.start_counting(7)
        found = FAB(model, "l2", steps=30).run(
            problem.images, problem.labels, torch.arange(7), targets=4, epsilon=enough
        )
        assert model.confirm(found, problem.labels).all()
        size = distances(found - problem.images)["l2"]
        assert (size <= max(enough, float(distance.max()) * 1.1)).all()
        costs.append(model.counts.totals["backwards"])
    assert (costs[0] == 120).all()
    assert (costs[1] < 20).all()


def test_restarts_never_end_farther_away(convolutional: Problem) -> None:
    """A further restart never increases the distance."""
    one, many = (
        convolutional.run("fab", "l2", options={"steps": 6, "restarts": count}).rows.to_pandas()["epsilon"]
        for count in (1, 5)
    )
    assert (many <= one).all()
    assert (many < one).any()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_without_targets_each_step_goes_to_the_nearest_class(norm: str) -> None:
    """An affine model's nearest boundary is found in one step, at one gradient per other class."""
    problem = affine_problem(5, (1, 8, 8))
    rows = problem.run("fab", norm, options={"targets": 0, "steps": 10}).rows.to_pandas()
    optimum = problem.network.nearest(problem.images, problem.labels, norm).numpy()  # type: ignore[operator]
    assert (rows["epsilon"] <= 1.02 * optimum).all()
    assert (rows["epsilon"] >= 0.9999 * optimum).all()
    assert (rows["backwards"] == 40).all()
