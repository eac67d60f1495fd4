"""Projections, random points, objectives, and what of SPSA and the noise attacks can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from attack_problems import Problem, affine_problem
from torch import nn

from gauntlet.attacks.geometry import Ball, direction, distances, scaled_to
from gauntlet.attacks.model import AttackModel
from gauntlet.attacks.objectives import cross_entropy, margin
from gauntlet.attacks.spsa import _estimate, _signs
from gauntlet.errors import InputError
from gauntlet.subject import logit_margin

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.rand(50, 2, 4, 4, generator=RANDOM)


def test_distances_are_the_four_norms() -> None:
    """The norms of a known vector."""
    found = distances(torch.tensor([[[[3.0, -4.0, 0.0]]]]))
    assert {name: value.item() for name, value in found.items()} == {"l0": 2.0, "l1": 7.0, "l2": 5.0, "linf": 4.0}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_projection_ends_in_ball_and_box_and_keeps_what_is_inside(norm: str) -> None:
    """Far points come to the ball's edge or inside; points inside both do not move."""
    ball = Ball(IMAGES, 0.3, norm)
    far = ball.project(IMAGES + torch.randn(IMAGES.shape, generator=RANDOM))
    assert ((far >= 0) & (far <= 1)).all()
    assert (distances(far - IMAGES)[norm] <= 0.3 * (1 + 1e-5)).all()
    inside = ball.random_point(torch.arange(50), stream="test")
    assert torch.allclose(ball.project(inside), inside, atol=1e-7)
    centred = Ball(torch.full((1, 1, 1, 2), 0.5), 0.25, norm)
    expected = {"l2": [0.65, 0.7], "linf": [0.75, 0.75]}[norm]
    pushed = centred.project(torch.tensor([[[[0.5 + 0.3, 0.5 + 0.4]]]]))
    assert torch.allclose(pushed.flatten(), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_random_points_fill_the_ball_inside_the_box(norm: str) -> None:
    """Starts lie in ball and box, reach its outer part, and depend on key and stream alone."""
    ball = Ball(IMAGES, 0.2, norm)
    points = ball.random_point(torch.arange(50), stream="a")
    assert ((points >= 0) & (points <= 1)).all()
    sizes = distances(points - IMAGES)[norm]
    assert (sizes <= 0.2 * (1 + 1e-6)).all()
    assert sizes.median() > 0.15
    assert torch.equal(points[7:9], Ball(IMAGES[7:9], 0.2, norm).random_point(torch.arange(7, 9), stream="a"))
    assert not torch.equal(points, ball.random_point(torch.arange(50), stream="b"))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_step_has_unit_size_whatever_the_gradients_scale(norm: str) -> None:
    """Tiny and huge gradients give the same step; a zero gradient gives none, not NaN."""
    gradient = torch.randn(3, 1, 4, 4, generator=RANDOM)
    step = direction(gradient, norm)
    assert torch.allclose(distances(step)[norm], torch.ones(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(direction(gradient * 1e-30, norm), step, atol=1e-6)
    assert not direction(torch.zeros(1, 1, 4, 4), norm).any()


def test_objectives_are_the_derivatives_of_their_losses() -> None:
    """Up to a positive factor per sample they equal autograd's derivatives of cross-entropy and margin."""
    logits = torch.randn(6, 5, generator=RANDOM, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for objective, loss in (
        (cross_entropy, nn.functional.cross_entropy(logits, labels, reduction="sum")),
        (margin, -logit_margin(logits, labels).sum()),
    ):
        (exact,) = torch.autograd.grad(loss, logits)
        mine = objective(logits.detach(), labels)
        assert torch.allclose(nn.functional.normalize(mine), nn.functional.normalize(exact))


def test_cross_entropy_does_not_underflow() -> None:
    """Where the softmax is certain to the last bit, the direction is still there."""
    derivative = cross_entropy(torch.tensor([[1000.0, 1.0, 0.0]]), torch.tensor([0]))
    assert derivative[0, 0] == -1
    assert derivative[0, 1] > derivative[0, 2] > 0


def test_spsa_estimates_the_gradient_of_the_margin() -> None:
    """On an affine model the mean over many draws is the margin's gradient, within its sampling error."""
    problem = affine_problem(2, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    model.start_counting(2)
    keys, rows = torch.tensor([11, 12]), torch.arange(2)
    arguments = {"rows": rows, "pairs": 4096, "probe": 0.01}
    found = _estimate(model, problem.images, problem.labels, keys, step=0, **arguments)  # type: ignore[arg-type]
    leaf = problem.images.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad(logit_margin(problem.network(leaf), problem.labels).sum(), leaf)
    cosine = nn.functional.cosine_similarity(found.flatten(1), exact.flatten(1))
    assert (cosine > 0.98).all()
    assert torch.allclose(found.norm(), exact.norm(), rtol=0.05)
    assert model.forwards.tolist() == [8192, 8192]
    assert model.backwards.tolist() == [0, 0]


def test_signs_are_fair_and_belong_to_their_key() -> None:
    """Each sign is -1 or +1, about half of each, the same for a sample in any company."""
    signs = _signs(torch.arange(4), (7, 1, 8, 8), stream="s", dtype=torch.float32)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.1
    assert torch.equal(signs[2:3], _signs(torch.tensor([2]), (7, 1, 8, 8), stream="s", dtype=torch.float32))


def test_spsa_refuses_a_walk_too_short_for_the_ball(convolutional: Problem) -> None:
    """When steps * step_size cannot reach epsilon, the numbers are named instead of a false robustness."""
    with pytest.raises(InputError, match=r"cannot reach epsilon 0\.5 in 3 steps"):
        convolutional.run("spsa", "linf", (0.5,), options={"steps": 3})


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_noise_has_the_size_of_epsilon(norm: str) -> None:
    """Noise is scaled to exactly epsilon in the attack's norm."""
    noise = scaled_to(torch.randn(5, 1, 4, 4, generator=RANDOM), 0.3, norm)
    assert torch.allclose(distances(noise)[norm], torch.full((5,), 0.3, dtype=torch.float64), atol=1e-6)


def test_more_draws_of_noise_never_help_the_model(convolutional: Problem) -> None:
    """The worst of many draws contains the worst of few: what few draws break, many do."""
    broken = []
    for draws in (1, 5, 40):
        rows = convolutional.run("gaussian_noise", "l2", (1.0,), options={"draws": draws}).rows
        broken.append({index for index, status in enumerate(rows["status"].to_pylist()) if status == "adversarial"})
    assert broken[0] <= broken[1] <= broken[2]
    assert len(broken[0]) < len(broken[2])


def test_restarts_never_help_the_model(convolutional: Problem) -> None:
    """Another restart attacks only what still holds, so it can only break more."""
    options = {"steps": 1}
    one = convolutional.run("pgd", "linf", (0.12,), options=options).rows["status"].to_pylist()
    many = convolutional.run("pgd", "linf", (0.12,), options={**options, "restarts": 20}).rows["status"].to_pylist()
    assert all(b == "adversarial" for a, b in zip(one, many, strict=True) if a == "adversarial")
    assert many.count("adversarial") > one.count("adversarial")
