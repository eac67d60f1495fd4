"""Projections, random points, objectives, and parts of SPSA, PGD and noise that can be computed by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Tensor, nn

from gauntlet.config.compatibility import attack_problems
from gauntlet.core.errors import InputError
from gauntlet.core.geometry import Ball, direction, distances, scaled_to, sparse_direction
from gauntlet.registry import ATTACKS, Spec
from gauntlet.robustness.attacks.base.ascent import Attempt, attack_with_restarts
from gauntlet.robustness.attacks.base.losses import TARGETED_LOSSES, UNTARGETED_LOSSES, AttackLoss
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.pgd import mi_fgsm
from gauntlet.robustness.attacks.spsa import _estimate_gradient, _signs
from gauntlet.robustness.judge import logit_margin
from tests.support.attack_problems import Problem, affine_problem

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.rand(50, 2, 4, 4, generator=RANDOM)


def test_distances_are_the_four_norms() -> None:
    """The four norms of a known vector are exact."""
    found = distances(torch.tensor([[[[3.0, -4.0, 0.0]]]]))
    assert {name: value.item() for name, value in found.items()} == {"l0": 2.0, "l1": 7.0, "l2": 5.0, "linf": 4.0}


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_projection_ends_in_ball_and_box_and_keeps_points_inside(norm: str) -> None:
    """Far points move into the ball, and points inside ball and box stay."""
    ball = Ball(IMAGES, 0.3, norm)
    far = ball.project(IMAGES + torch.randn(IMAGES.shape, generator=RANDOM))
    assert ((far >= 0) & (far <= 1)).all()
    assert (distances(far - IMAGES)[norm] <= 0.3 * (1 + 1e-5)).all()
    inside = ball.random_point(torch.arange(50), stream="test")
    assert torch.allclose(ball.project(inside), inside, atol=1e-7)
    central_ball = Ball(torch.full((1, 1, 1, 2), 0.5), 0.25, norm)
    expected = {"l1": [0.575, 0.675], "l2": [0.65, 0.7], "linf": [0.75, 0.75]}[norm]
    pushed = central_ball.project(torch.tensor([[[[0.5 + 0.3, 0.5 + 0.4]]]]))
    assert torch.allclose(pushed.flatten(), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_random_points_fill_the_ball_inside_the_box(norm: str) -> None:
    """Points are in ball and box, reach the outer part, and depend on key and stream."""
    ball = Ball(IMAGES, 0.2, norm)
    points = ball.random_point(torch.arange(50), stream="a")
    assert ((points >= 0) & (points <= 1)).all()
    sizes = distances(points - IMAGES)[norm]
    assert (sizes <= 0.2 * (1 + 1e-6)).all()
    assert sizes.median() > 0.15
    assert torch.equal(points[7:9], Ball(IMAGES[7:9], 0.2, norm).random_point(torch.arange(7, 9), stream="a"))
    assert not torch.equal(points, ball.random_point(torch.arange(50), stream="b"))


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_a_step_has_unit_size_whatever_the_gradients_scale(norm: str) -> None:
    """Tiny and huge gradients give the same step, and a zero gradient none, not NaN."""
    gradient = torch.randn(3, 1, 4, 4, generator=RANDOM)
    step = direction(gradient, norm)
    assert torch.allclose(distances(step)[norm], torch.ones(3, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(direction(gradient * 1e-30, norm), step, atol=1e-6)
    assert not direction(torch.zeros(1, 1, 4, 4), norm).any()


def test_the_l1_projection_is_the_nearest_point_of_ball_and_box() -> None:
    """The projection equals a general solver's inside and on the ball, with and without the box."""
    random = np.random.default_rng(0)
    for case in range(40):
        x, moved = random.uniform(0, 1, 6), random.normal(0, (0.1, 0.5, 2)[case % 3], 6)
        x[:2] = case % 2, 0.0
        epsilon = (0.05, 0.5, 2.0)[case % 5 % 3]
        # The change is up - down; both lie within what the box leaves.
        solution = minimize(
            lambda both, moved=moved: np.square(both[:6] - both[6:] - moved).sum(),
            np.zeros(12),
            bounds=[*((0, 1 - value) for value in x), *((0, value) for value in x)],
            constraints={"type": "ineq", "fun": lambda both, epsilon=epsilon: epsilon - both.sum()},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        origin = torch.from_numpy(x)[None]
        found = Ball(origin, epsilon, "l1").project(origin + torch.from_numpy(moved)[None])[0]
        assert np.allclose(found.numpy(), x + solution.x[:6] - solution.x[6:], atol=1e-5), case


def test_the_l1_projection_is_within_budget_on_large_float32_images() -> None:
    """The sum of 150 528 rounded changes exceeds the budget by rounding at most."""
    images = torch.rand(2, 3, 224, 224, generator=RANDOM)
    images[:, :, ::3] = images[:, :, ::3].round()
    for epsilon, scale in ((12.0, 0.1), (255.0, 0.01), (3000.0, 1.0)):
        projected = Ball(images, epsilon, "l1").project(images + scale * torch.randn(images.shape, generator=RANDOM))
        size = distances(projected - images)["l1"]
        assert (size <= epsilon * (1 + 1e-5) + 1e-6).all()
        assert (size >= epsilon * (1 - 1e-4)).all()


@pytest.mark.parametrize("epsilon", [0.05, 0.3, 1.0])
def test_small_l1_balls_hold_on_large_float32_images(epsilon: float) -> None:
    """Each of 150 528 pixels is rounded towards its origin, so that what rounding adds does not leave the ball."""
    images = torch.rand(2, 3, 224, 224, generator=RANDOM)
    ball, noise = Ball(images, epsilon, "l1"), torch.randn(images.shape, generator=RANDOM)
    points = [
        *(ball.project(images + scale * noise) for scale in (1e-5, 1e-4)),
        ball.random_point(torch.arange(2), stream="a"),
        ball.moved(scaled_to(noise, epsilon, "l1")),
    ]
    for point in points:
        assert ((point >= 0) & (point <= 1)).all()
        size = distances(point - images)["l1"]
        assert (size <= epsilon * (1 + 1e-6)).all()
        assert (size >= epsilon - 150_528 * 2**-24).all()


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("epsilon", [1e-4, 0.005, 0.5])
def test_steps_that_are_a_little_too_long_are_shortened_on_large_float32_images(norm: str, epsilon: float) -> None:
    """Also where no entry changes by half of the distance of two numbers, and where all entries are equal."""
    images = torch.rand(1, 3, 224, 224, generator=RANDOM) / 2 + 0.25
    ball, noise = Ball(images, epsilon, norm), torch.randn(images.shape, generator=RANDOM)
    start = images + scaled_to(noise, epsilon, norm)
    for excess in (1e-5, 1e-4, 1e-3, 1e-2):
        for point in (images + (start - images) * (1 + excess), images + scaled_to(noise.sign(), 2 * epsilon, norm)):
            projected = ball.project(point)
            size = float(distances(projected - images)[norm])
            assert size <= epsilon * (1 + 1e-6) + 3e-8
            if norm == "l2" and epsilon > 1e-3:
                assert size >= epsilon * 0.99
            assert torch.equal(ball.project(projected), projected) or size > epsilon


def test_random_points_are_uniform_in_the_l1_ball() -> None:
    """In the plane each quadrant and the inner half have a quarter of the points."""
    ball = Ball(torch.full((4000, 1, 1, 2), 0.5), 0.4, "l1")
    change = (ball.random_point(torch.arange(4000), stream="a") - 0.5).flatten(1)
    size = change.abs().sum(1)
    assert abs((size < 0.2).double().mean() - 0.25) < 0.02
    for signs in ([1, 1], [1, -1], [-1, 1], [-1, -1]):
        assert abs((change.sign() == torch.tensor(signs)).all(1).double().mean() - 0.25) < 0.02
    share = change[:, 0].abs() / size
    assert abs(share.mean() - 0.5) < 0.02
    assert abs(share.var() - 1 / 12) < 0.005


def test_a_sparse_step_moves_the_largest_entries_by_sign() -> None:
    """Ties with the last entry are included, and zero entries never move."""
    gradient = torch.tensor([[[[3.0, -2.0, 2.0, 0.0]]], [[[0.0, 0.0, -5.0, 0.0]]]])
    one, two = (sparse_direction(gradient, torch.tensor([count, 2])).reshape(2, 4) for count in (1, 2))
    assert one[0].tolist() == [1, 0, 0, 0]
    assert two[0].tolist() == pytest.approx([1 / 3, -1 / 3, 1 / 3, 0])
    assert two[1].tolist() == [0, 0, -1, 0]
    assert int((direction(torch.randn(1, 1, 20, 20, generator=RANDOM), "l1") != 0).sum()) == 20


def test_an_l1_step_skips_pixels_at_the_boxs_edge() -> None:
    """A pixel that cannot move is not chosen, however large its gradient."""
    ball = Ball(torch.tensor([[[[1.0, 0.0, 0.5, 1.0]]]]), 0.3, "l1")
    step = ball.direction(ball.origin, torch.tensor([[[[9.0, -8.0, 1.0, -0.5]]]]))
    assert step.flatten().tolist() == [0, 0, 1, 0]


def test_a_leap_in_l1_is_the_best_point_for_a_linear_function() -> None:
    """FGSM's point equals linear programming over ball and box."""
    random = np.random.default_rng(1)
    for case in range(20):
        x, slope = random.uniform(0, 1, 6), random.normal(size=6)
        slope[case % 6] = 0.0
        epsilon = (0.1, 1.0, 5.0)[case % 3]
        bounds = [*((0, 1 - value) for value in x), *((0, value) for value in x)]
        best = linprog(np.concatenate([-slope, slope]), A_ub=np.ones((1, 12)), b_ub=[epsilon], bounds=bounds)
        origin = torch.from_numpy(x)[None]
        point = Ball(origin, epsilon, "l1").full_step(torch.from_numpy(slope)[None])[0].numpy()
        assert (point - x) @ slope == pytest.approx(-best.fun)
        assert np.abs(point - x).sum() <= epsilon + 1e-9
        assert point[case % 6] == x[case % 6]


@pytest.mark.parametrize("name", list(UNTARGETED_LOSSES))
@pytest.mark.parametrize("targeted", [False, True])
def test_objectives_are_the_derivatives_of_their_values(name: str, targeted: bool) -> None:
    """Up to a positive factor per sample, derivatives equal autograd's."""
    logits = torch.randn(6, 5, generator=RANDOM, dtype=torch.float64, requires_grad=True)
    labels, targets = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([1, 2, 3, 4, 0, 4])
    objective = (TARGETED_LOSSES if targeted else UNTARGETED_LOSSES)[name]
    (exact,) = torch.autograd.grad(objective.value(logits, labels, targets).sum(), logits)
    mine = objective.derivative(logits.detach(), labels, targets)
    assert torch.allclose(nn.functional.normalize(mine), nn.functional.normalize(exact))


def test_objectives_have_their_published_values() -> None:
    """Margin and difference of logits ratio equal values by hand; the cross-entropy is its own after a softplus."""
    logits, labels, targets = torch.tensor([[3.0, 1.0, 2.0, -1.0]]), torch.tensor([0]), torch.tensor([1])

    def value(objectives: Mapping[str, AttackLoss], name: str) -> float:
        return float(objectives[name].value(logits, labels, targets))

    assert value(UNTARGETED_LOSSES, "margin") == -1.0
    assert value(UNTARGETED_LOSSES, "dlr") == pytest.approx(-(3 - 2) / (3 - 1))
    odds = torch.tensor(value(UNTARGETED_LOSSES, "cross_entropy"))
    assert torch.allclose(nn.functional.softplus(odds), nn.functional.cross_entropy(logits, labels))
    assert value(TARGETED_LOSSES, "margin") == -2.0
    assert value(TARGETED_LOSSES, "dlr") == pytest.approx(-(3 - 1) / (3 - 0.5 * (1 - 1)))
    odds = torch.tensor(value(TARGETED_LOSSES, "cross_entropy"))
    assert torch.allclose(-nn.functional.softplus(-odds), logits.log_softmax(1)[0, 1])


@pytest.mark.parametrize("objectives", [UNTARGETED_LOSSES, TARGETED_LOSSES], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("name", list(UNTARGETED_LOSSES))
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_losses_order_points_at_every_scale_of_the_logits(
    objectives: Mapping[str, AttackLoss], name: str, scale: float
) -> None:
    """A loss rises, and its derivative is not zero, when the label's lead over a rival shrinks, at every scale."""
    label, rival = torch.tensor([0, 0]), torch.tensor([1, 1])
    logits = scale * torch.tensor([[20.0, 1.0, 0.0, -1.0], [19.9, 1.1, 0.0, -1.0]])
    before, after = objectives[name].value(logits.double(), label, rival).tolist()
    assert after > before
    derivative = objectives[name].derivative(logits, label, rival)
    assert (derivative[:, 1] > 0).all()
    assert (derivative[:, 0] < 0).all()


@pytest.mark.parametrize(("objectives", "classes"), [(UNTARGETED_LOSSES, 2), (TARGETED_LOSSES, 3)], ids=["3", "4"])
def test_difference_of_logits_ratio_refuses_too_few_classes(objectives: Mapping[str, AttackLoss], classes: int) -> None:
    """It needs three logits, and four with targets."""
    with pytest.raises(InputError, match=f"the model has {classes}"):
        objectives["dlr"].check(torch.zeros(1, classes))


@pytest.mark.parametrize("objectives", [UNTARGETED_LOSSES, TARGETED_LOSSES], ids=["untargeted", "targeted"])
def test_the_difference_of_logits_ratio_does_not_overflow(objectives: Mapping[str, AttackLoss]) -> None:
    """The gradient before a layer of large weights is finite, also where the largest logits are equal."""
    logits, labels = torch.tensor([[2.0, 2.0, 2.0, 2.0, 1.0]]), torch.tensor([0])
    derivative = objectives["dlr"].derivative(logits, labels, labels + 1)
    assert derivative[0, 0] < 0 < derivative[0, 1]
    assert (derivative @ (100 * torch.randn(5, 8, generator=RANDOM).to(derivative))).isfinite().all()


def test_cross_entropy_does_not_underflow() -> None:
    """The direction is defined where the softmax is exactly one."""
    derivative = UNTARGETED_LOSSES["cross_entropy"].derivative(
        torch.tensor([[1000.0, 1.0, 0.0]]), torch.tensor([0]), torch.tensor([0])
    )
    assert derivative[0, 0] == -1
    assert derivative[0, 1] > derivative[0, 2] > 0


def test_spsa_estimates_the_gradient_of_the_margin() -> None:
    """On an affine model the mean over many draws is the margin's gradient, within sampling error."""
    problem = affine_problem(2, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    model.start_counting(2)
    keys = torch.tensor([11, 12])
    arguments = {"pairs": 4096, "delta": 0.01}
    found = _estimate_gradient(model, problem.images, problem.labels, keys, step=0, **arguments)  # type: ignore[arg-type]
    leaf = problem.images.clone().requires_grad_(True)
    (exact,) = torch.autograd.grad(logit_margin(problem.network(leaf), problem.labels).sum(), leaf)
    cosine = nn.functional.cosine_similarity(found.flatten(1), exact.flatten(1))
    assert (cosine > 0.98).all()
    assert torch.allclose(found.norm(), exact.norm(), rtol=0.05)
    assert model.counts.totals["forwards"].tolist() == [8192, 8192]
    assert model.counts.totals["backwards"].tolist() == [0, 0]


def test_signs_are_fair_and_belong_to_their_key() -> None:
    """Signs are -1 or +1 in equal parts and depend on the sample's key only."""
    signs = _signs(torch.arange(4), (7, 1, 8, 8), stream="s", dtype=torch.float32)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(signs.mean()) < 0.1
    assert torch.equal(signs[2:3], _signs(torch.tensor([2]), (7, 1, 8, 8), stream="s", dtype=torch.float32))


def test_spsa_refuses_a_walk_too_short_for_the_ball(convolutional: Problem) -> None:
    """If steps * step_size is below epsilon, the error names both."""
    with pytest.raises(InputError, match=r"cannot reach epsilon 0\.5 in 3 steps"):
        convolutional.run("spsa", "linf", (0.5,), options={"steps": 3})


@pytest.mark.parametrize(("steps", "length", "epsilon"), [(19, 0.1, 0.1), (6, 0.03137, 8 / 255), (7, 0.29995, 0.3)])
def test_a_walk_that_is_too_short_by_rounding_is_run(
    steps: int, length: float, epsilon: float, convolutional: Problem
) -> None:
    """The attack and the check of its configuration agree."""
    options = {"steps": steps, "step_size": length / steps, "pairs": 1, "delta": 0.01}
    assert list(attack_problems(Spec("spsa", options), norm="linf", epsilons=(epsilon,), draws=1)) == []
    convolutional.run("spsa", "linf", (epsilon,), options=options)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_noise_has_the_size_of_epsilon(norm: str) -> None:
    """Noise is scaled to exactly epsilon in the attack's norm."""
    noise = scaled_to(torch.randn(5, 1, 4, 4, generator=RANDOM), 0.3, norm)
    assert torch.allclose(distances(noise)[norm], torch.full((5,), 0.3, dtype=torch.float64), atol=1e-6)


def test_more_draws_of_noise_never_help_the_model(convolutional: Problem) -> None:
    """More draws break every sample that fewer draws break."""
    broken = []
    for draws in (1, 5, 40):
        rows = convolutional.run("gaussian_noise", "l2", (1.0,), options={"draws": draws}).rows
        broken.append({index for index, status in enumerate(rows["status"].to_pylist()) if status == "adversarial"})
    assert broken[0] <= broken[1] <= broken[2]
    assert len(broken[0]) < len(broken[2])


def test_restarts_never_help_the_model(convolutional: Problem) -> None:
    """A further restart attacks robust samples only, so it can only break more."""
    options = {"steps": 1}
    one = convolutional.run("pgd", "linf", (0.12,), options=options).rows["status"].to_pylist()
    many = convolutional.run("pgd", "linf", (0.12,), options={**options, "restarts": 20}).rows["status"].to_pylist()
    assert all(b == "adversarial" for a, b in zip(one, many, strict=True) if a == "adversarial")
    assert many.count("adversarial") > one.count("adversarial")


class Curved(nn.Module):
    """Two classes with a parabolic boundary: the gradient varies in size and direction."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(B, 1, 1, 2)` to logits."""
        one, two = x.flatten(1).unbind(1)
        return torch.stack([torch.full_like(one, 9.0), 10 * one.square() + two], 1)


def test_momentum_is_that_of_its_source() -> None:
    """Three steps equal those by hand: gradients of L1 norm 1, summed with decay, a step along the sum."""
    x, y = torch.tensor([[[[0.2, 0.4]]]], dtype=torch.float64), torch.tensor([0])
    model = AttackModel(Curved().eval(), precision="float64")
    model.start_counting(1)
    found = mi_fgsm(model, x, y, norm="l2", epsilon=0.3, steps=3, decay=0.5)
    point, momentum = x, torch.zeros_like(x)
    for _ in range(3):
        gradient = torch.tensor([20 * float(point[..., 0]), 1.0], dtype=torch.float64).reshape(x.shape)
        momentum = 0.5 * momentum + gradient / gradient.abs().sum()
        point = point + 0.1 * momentum / momentum.norm()
    assert Curved()(point).argmax(1) == y  # it holds: all steps were made
    assert torch.allclose(found, point, atol=1e-9)


def test_momentum_stays_with_its_sample(convolutional: Problem) -> None:
    """Samples that stay have the same momentum when others leave."""
    good = convolutional.labels == convolutional.network(convolutional.images).argmax(1)
    x, y = convolutional.images[good].double(), convolutional.labels[good]
    model = AttackModel(convolutional.network, precision="float64")

    def attacked(rows: Tensor) -> Tensor:
        model.start_counting(len(rows))
        return mi_fgsm(model, x[rows], y[rows], norm="linf", epsilon=0.1, steps=8)

    together = attacked(torch.arange(len(x)))
    assert 0 < int((model.judge.logits(together).argmax(1) != y).sum()) < len(x)
    for row in range(len(x)):
        assert torch.allclose(together[row : row + 1], attacked(torch.tensor([row])), atol=1e-9)


def test_each_attempt_has_its_own_draws_and_robust_samples_only(convolutional: Problem) -> None:
    """Streams name restart and target, targets are the likeliest rivals, and fooled samples leave."""
    model = AttackModel(convolutional.network)
    x, y = convolutional.images[1:5], convolutional.labels[1:5]
    model.start_counting(4)
    seen: list[Attempt] = []

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        seen.append(one)
        assert torch.equal(model.active_samples, one.samples)
        return x[one.samples] + len(seen), torch.arange(1, len(one.samples))

    found, left = attack_with_restarts(model, x, y, run, norm="linf", loss="margin", restarts=2, targets=2)
    assert [one.stream for one in seen] == [
        f"start:{restart}:target:{target}" for restart in (0, 1) for target in (0, 1)
    ]
    assert [one.samples.tolist() for one in seen] == [[0, 1, 2, 3], [1, 2, 3], [2, 3], [3]]
    assert [one.last for one in seen] == [False, False, False, True]
    assert left.tolist() == []
    assert torch.allclose(found, x + torch.arange(1, 5).reshape(4, 1, 1, 1))
    logits = convolutional.network(x).scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
    assert torch.equal(seen[0].targets, logits[:, 0])
    assert torch.equal(seen[1].targets, logits[1:, 1])
    seen.clear()
    attack_with_restarts(model, x, y, run, norm="linf", loss="margin", restarts=2, last=False)
    assert [(one.stream, one.targets, one.last) for one in seen] == [("start:0", None, False), ("start:1", None, False)]


def test_every_loss_of_a_list_starts_from_the_same_point(convolutional: Problem) -> None:
    """Each restart runs once per loss, then to the nearest class, on the samples left; the last run is the last."""
    model = AttackModel(convolutional.network)
    x, y = convolutional.images[1:5], convolutional.labels[1:5]
    model.start_counting(4)
    seen: list[Attempt] = []

    def run(one: Attempt) -> tuple[Tensor, Tensor]:
        seen.append(one)
        return x[one.samples], torch.arange(len(one.samples) - (len(seen) == 1))

    attack_with_restarts(model, x, y, run, norm="linf", loss=["cross_entropy", "dlr"], restarts=2)
    assert [one.stream for one in seen] == ["start:0"] * 3 + ["start:1"] * 3
    assert [len(one.samples) for one in seen] == [4, 3, 3, 3, 3, 3]
    losses = [UNTARGETED_LOSSES["cross_entropy"], UNTARGETED_LOSSES["dlr"], TARGETED_LOSSES["margin"]]
    assert [one.loss for one in seen] == losses * 2
    assert [one.targets is not None for one in seen] == [False, False, True] * 2
    assert [one.last for one in seen] == [False] * 5 + [True]


def test_several_losses_find_what_each_finds(convolutional: Problem) -> None:
    """PGD with a list of losses fools every sample that one of them fools; a list of one is that loss."""
    losses = ["cross_entropy", "margin", "dlr"]

    def fooled(loss: object) -> set[int]:
        rows = convolutional.run("pgd", "linf", (0.03,), options={"loss": loss, "steps": 5}).rows
        return {row["index"] for row in rows.to_pylist() if row["status"] == "adversarial"}

    alone = [fooled(loss) for loss in losses]
    assert fooled(losses) >= set().union(*alone)
    assert fooled(["margin"]) == fooled("margin")


def test_targets_reach_classes_that_the_untargeted_attack_misses() -> None:
    """The margin follows the initial rival, which is out of reach, while another is near."""
    # Class 1 leads on the image but hardly moves; class 2 is behind, and steep.
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 10, 10]]))
        network[1].bias.copy_(torch.tensor([3.0, 1.0, -10.0]))
    problem = Problem(network.eval(), torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, dtype=torch.int64))
    for name, options in (("bim", {"loss": "margin"}), ("fgsm", {"loss": "margin"}), ("pgd", {"loss": "margin"})):
        away = problem.run(name, "linf", (0.2,), options=options).rows["status"].to_pylist()
        towards = problem.run(name, "linf", (0.2,), options={**options, "targets": 2}).rows["status"].to_pylist()
        assert (away, towards) == (["robust"], ["adversarial"]), name


def test_the_target_is_not_queried_in_a_transfer(convolutional: Problem) -> None:
    """Restarts and targets against another network cost the target no query."""
    x, y = convolutional.images[1:5], convolutional.labels[1:5]
    model = AttackModel(convolutional.network, sources=[copy.deepcopy(convolutional.network)])
    model.start_counting(4)
    model.confirm = model.judge = None  # type: ignore[assignment, method-assign]
    for name in ("fgsm", "bim", "mi_fgsm", "pgd", "apgd", "adaptive"):
        attack = ATTACKS.load(name)
        keys = {} if name in ("fgsm", "bim", "mi_fgsm") else {"keys": torch.arange(4), "restarts": 2}
        steps = {} if name == "fgsm" else {"steps": 3}
        assert attack(model, x, y, norm="linf", epsilon=0.1, targets=2, **keys, **steps).shape == x.shape
