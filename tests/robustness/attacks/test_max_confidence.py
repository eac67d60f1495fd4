"""MaxConfidence: the most confident misclassification."""

from __future__ import annotations

import pytest
import torch

from gauntlet.robustness.attacks import max_confidence as module
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.max_confidence import max_confidence
from tests.support.attack_problems import Affine, Problem, affine_problem


@pytest.fixture(scope="module")
def problem() -> Problem:
    """An affine model whose confidence grows slowly."""
    steep = affine_problem(5, (1, 8, 8))
    return Problem(Affine(5, scale=5.0).eval(), steep.images, steep.labels)


def highest(problem: Problem, epsilon: float) -> torch.Tensor:
    """Return the largest logit gap to any class over the ball's corners, far from the box: float `(N,)`."""
    weight = problem.network.weight.detach() * problem.network.scale  # type: ignore[operator, union-attr]
    logits = problem.network(problem.images).detach()
    corners = problem.images.flatten(1)[:, None] + epsilon * (weight - weight[problem.labels][:, None]).sign()
    reached = problem.network(corners.reshape(-1, 1, 8, 8)).detach().softmax(1).reshape(7, 5, 5)
    assert logits.shape == (7, 5)
    return reached.scatter(2, problem.labels[:, None, None].expand(7, 5, 1), 0.0).amax((1, 2))


def test_it_returns_the_most_confident_mistake(problem: Problem) -> None:
    """It is at least as confident as the best corner, and far more than PGD's first success."""
    distance = float(problem.network.nearest(problem.images, problem.labels, "linf").max())  # type: ignore[operator]
    epsilon = 2 * distance
    rows = problem.run("max_confidence", "linf", (epsilon,), options={"steps": 4}).rows.to_pandas()
    first = problem.run("pgd", "linf", (epsilon,), options={"steps": 20}).rows.to_pandas()
    assert (rows["status"] == "adversarial").all()
    assert (rows["adversarial_confidence"] >= highest(problem, epsilon).numpy() - 0.02).all()
    assert (rows["adversarial_confidence"] > first["adversarial_confidence"] + 0.1).all()


def test_the_runs_of_the_recipes() -> None:
    """`single`: noise, PGD, finer PGD. `fixed`: 50 and 5 until misclassified, then 5 and 5 for each goal."""
    single, fixed = list(module._recipe("single")), list(module._recipe("fixed"))
    assert [(run.noise, run.refinement) for run in single] == [(True, 1), (False, 1), (False, 25)]
    assert [sum(run.goal == 0.0 and run.noise is noise for run in fixed) for noise in (True, False)] == [50, 5]
    for goal in (0.5, 0.75, 0.875, 0.9375, 0.96875, 0.984375, 1.0):
        assert [sum(run.goal == goal and run.noise is noise for run in fixed) for noise in (True, False)] == [5, 5]
    assert len(fixed) == 55 + 7 * 10
    assert [run.goal for run in fixed] == sorted(run.goal for run in fixed)


def test_a_reached_goal_costs_no_more_queries(monkeypatch: pytest.MonkeyPatch, problem: Problem) -> None:
    """Samples above the goal leave, and others run to the last step."""
    monkeypatch.setattr(module, "_recipe", lambda name: [module._Run(0.4, noise=False)] * 3)
    distance = problem.network.nearest(problem.images, problem.labels, "linf")  # type: ignore[operator]
    epsilon = float(distance.sort().values[3] + distance.sort().values[4])
    model = AttackModel(problem.network)
    model.start_counting(7)
    arguments = {"norm": "linf", "epsilon": epsilon, "keys": torch.arange(7), "steps": 4}
    found = max_confidence(model, problem.images, problem.labels, **arguments)  # type: ignore[arg-type]
    probabilities = problem.network(found).softmax(1).scatter(1, problem.labels[:, None], 0.0).amax(1)
    wrong = problem.network(found).argmax(1) != problem.labels
    reached = wrong & (probabilities >= 0.4)
    assert reached.any()
    assert (model.counts.totals["backwards"][reached] < 48).all()
    assert (model.counts.totals["backwards"][~reached] == 48).all()


def test_without_a_mistake_the_confidence_in_the_label_is_lowest(problem: Problem) -> None:
    """If no other class is reached, the confidence in the label still falls."""
    distance = float(problem.network.nearest(problem.images, problem.labels, "linf").min())  # type: ignore[operator]
    rows = problem.run("max_confidence", "linf", (distance / 2,), options={"steps": 2}).rows.to_pandas()
    assert (rows["status"] == "robust").all()
    assert (rows["adversarial_confidence"] < rows["clean_confidence"]).all()
