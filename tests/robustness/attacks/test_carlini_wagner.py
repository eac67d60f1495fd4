"""Carlini and Wagner's attack: exact distances, the edges of the box, early abort, warm starts and the judge."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.carlini_wagner import carlini_wagner
from tests.support.attack_problems import Problem, affine_problem

QUICK: dict[str, Any] = {"steps": 60, "binary_search_steps": 5, "initial_const": 0.1, "step_size": 0.1}


def epsilons(problem: Problem, name: str = "carlini_wagner", **options: Any) -> np.ndarray:
    rows = problem.run(name, "l2", options={**QUICK, **options}, precision="float32").rows
    return np.array([np.inf if value is None else value for value in rows["epsilon"].to_pylist()])


class Edges(nn.Module):
    """Two classes, split by the mean of the pixels at 0.3: images of zeros and ones are far from gray."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        level = 20 * (x.flatten(1).mean(1) - 0.3)
        return torch.stack([level, -level], 1)


def black_images() -> Problem:
    images = torch.zeros(3, 1, 4, 4)
    images[1, :, 0, 0], images[2, :, 0, :2] = 1.0, 1.0
    return Problem(Edges().eval(), images, torch.ones(3, dtype=torch.int64))


@pytest.mark.parametrize("step_size", [0.1, 0.05])
def test_images_of_zeros_and_ones_are_left_although_tanh_is_flat_there(step_size: float) -> None:
    """At the edge of the box the objective hardly moves at first, which must not end the search."""
    problem = black_images()
    missing = 0.3 * 16 - problem.images.flatten(1).sum(1)
    free = (problem.images == 0).flatten(1).sum(1)
    optimum = (missing / free.sqrt()).numpy()  # spread evenly over the pixels at 0
    options = {"steps": round(12 / step_size), "binary_search_steps": 3, "initial_const": 1.0}
    found = epsilons(problem, step_size=step_size, **options)
    assert (found >= optimum * (1 - 1e-4)).all()
    assert (found <= optimum * 1.1).all()


def test_an_early_abort_saves_passes_and_ends_as_near() -> None:
    """Without an abort every step is taken; with it fewer are, at distances within 3 %."""
    problem = affine_problem(5, (1, 8, 8))
    rows = {
        abort: problem.run("carlini_wagner", "l2", options={**QUICK, "abort_early": abort}).rows.to_pandas()
        for abort in (False, True)
    }
    assert (rows[False]["backwards"] == QUICK["steps"] * QUICK["binary_search_steps"]).all()
    assert (rows[True]["backwards"] < 0.8 * rows[False]["backwards"]).all()
    assert (rows[True]["epsilon"] <= 1.03 * rows[False]["epsilon"]).all()


def test_further_constants_never_end_farther_away(convolutional: Problem) -> None:
    """The nearest success is kept, and the next search starts there: distances fall with each constant."""
    found = [epsilons(convolutional, binary_search_steps=count) for count in (1, 3, 5)]
    for fewer, more in pairwise(found):
        assert (more <= fewer + 1e-9).all()
    assert (found[2] < found[0]).any()


def test_it_ends_as_near_as_that_of_foolbox() -> None:
    """With the same settings it fools all that Foolbox's does, at a median distance within 0.5 % or smaller."""
    problem = affine_problem(5, (1, 8, 8), samples=20)
    own, foolbox = epsilons(problem), epsilons(problem, "foolbox:L2CarliniWagnerAttack")
    assert (np.isfinite(own) | ~np.isfinite(foolbox)).all()
    assert np.median(own) <= 1.005 * np.median(foolbox)


def test_confidence_moves_the_result_beyond_the_boundary() -> None:
    """With `confidence` k the margin of every result is k or more, and the distance is larger."""
    problem = affine_problem(3, (1, 8, 8))
    model = AttackModel(problem.network)
    sizes = []
    for confidence in (0.0, 5.0):
        model.start_counting(7)
        found = carlini_wagner(model, problem.images, problem.labels, confidence=confidence, **QUICK)
        logits = problem.network(found)
        rivals = logits.scatter(1, problem.labels[:, None], -torch.inf).amax(1)
        margin = rivals - logits.gather(1, problem.labels[:, None])[:, 0]
        assert (margin >= confidence - 1e-3).all()
        sizes.append((found - problem.images).flatten(1).norm(dim=1))
    assert (sizes[1] > sizes[0]).all()


def test_a_target_is_followed(convolutional: Problem) -> None:
    """With targets, other classes are tried too: no sample ends farther away than with one target, some nearer."""
    nine = replace(convolutional, images=convolutional.images[:9], labels=convolutional.labels[:9])
    one, three = (epsilons(nine, targets=count, binary_search_steps=3) for count in (1, 3))
    assert (three <= one).all()
    assert (three < one).any()


def test_a_success_that_the_judge_refuses_is_moved_outward(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy may see a success where the model as given sees none: such a point moves until both agree."""
    problem = affine_problem(3, (1, 8, 8))
    optimum = problem.network.nearest(problem.images, problem.labels, "l2")  # type: ignore[operator]

    def strict(_: AttackModel, x: Tensor, y: Tensor) -> Tensor:
        """Refuse a band beyond the boundary."""
        logits = problem.network(x)
        rivals = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        return rivals - logits.gather(1, y[:, None])[:, 0] > 1.0

    monkeypatch.setattr(AttackModel, "confirm", strict)
    model = AttackModel(problem.network)
    model.start_counting(7)
    found = carlini_wagner(model, problem.images, problem.labels, **QUICK)
    assert strict(model, found, problem.labels).all()
    assert ((found - problem.images).flatten(1).norm(dim=1) <= 1.2 * optimum).all()


class HalfBlind(nn.Module):
    """Two classes, split by the mean at 0.5; NaN from a mean of 0.4 on where the first pixel is bright."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        mean = x.flatten(1).mean(1)
        blind = (mean > 0.4) & (x[:, 0, 0, 0] > 0.7)
        level = 20 * (mean - 0.5)
        return torch.stack([level, -level], 1) + torch.where(blind, torch.nan, 0.0)[:, None]


def test_outputs_that_are_not_finite_concern_their_sample_only() -> None:
    """A sample whose way to the boundary leads through NaN stays robust; the others end where they end alone."""
    images = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(2)) * 0.05 + 0.35
    images[1, 0, 0, 0] = 0.95
    images[1, 0, 1:] -= 0.05
    problem = Problem(HalfBlind().eval(), images, torch.ones(4, dtype=torch.int64))
    found = epsilons(problem)
    assert np.isfinite(found).tolist() == [True, False, True, True]
    alone = epsilons(Problem(problem.network, images[2:3], problem.labels[2:3]))
    assert found[2] == pytest.approx(alone[0], rel=1e-5)
