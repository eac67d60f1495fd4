"""The adaptive attack goes through the views that a network names, in their order, and breaks what hides behind one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gauntlet.registry import Spec
from gauntlet.robustness.attacks.adaptive import adaptive
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support.attack_problems import Affine, Problem, affine_problem
from tests.support.trained_problems import trained_problem


class Masked(nn.Module):
    """An affine model whose logits are rounded, with the unrounded ones as a second view."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)
        self.asked: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits; their gradient is a hundred-thousandth of the pixels' mean."""
        return self.inner(x).detach().round(decimals=3) + 1e-5 * x.flatten(1)[:, :3]

    @property
    def surrogates(self) -> dict[str, object]:
        """Offer views by name."""
        return {"logits": self.forward, "inside": self.inner}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Name the useless view first."""
        return (("logits", "cross_entropy"), ("inside", "margin"))


def test_every_named_view_is_tried_on_what_still_holds() -> None:
    """Where the first pair fails, the second breaks; the attack's own surrogate is as before when it is over."""
    problem = affine_problem(3, (1, 8, 8), 4)
    epsilon = 1.1 * float(problem.network.nearest(problem.images, problem.labels, "linf").max())  # type: ignore[operator]
    masked = Problem(Masked().eval(), problem.images, problem.labels)
    assert masked.run("pgd", "linf", (epsilon,)).rows["status"].to_pylist() == ["robust"] * 4
    assert masked.run("adaptive", "linf", (epsilon,)).rows["status"].to_pylist() == ["adversarial"] * 4
    model = AttackModel(masked.network)
    model.start_counting(4)
    adaptive(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=torch.arange(4), steps=5)
    assert model.surrogate is None


def test_it_stops_when_nothing_is_left() -> None:
    """A sample that the first run breaks costs one run; one that holds costs all: away, and to each rival, per pair."""
    problem = affine_problem(3, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    for epsilon, most in ((0.4, 5), (1e-3, 2 * 3 * 5)):  # no pairs named: the margin of the logits, two rivals
        model.start_counting(2)
        adaptive(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=torch.arange(2), steps=5)
        assert int(model.counts.totals["backwards"].max()) <= most
    assert model.counts.totals["backwards"].tolist() == [3 * 5] * 2


def test_it_breaks_saturated_codes_that_withstand_gradients_of_their_logits() -> None:
    """Code bits sixteen times as large keep their signs; behind tanh and decoder most gradients are then zero."""
    model = Spec("cnn", {"widths": [8, 16], "head": {"name": "ecc"}})
    problem = trained_problem(Spec("sklearn_digits"), model=model, loss="hinge", epochs=15, test=200)
    last = problem.network.head.branches[0][-1]
    with torch.no_grad():
        last.weight.mul_(16)
        last.bias.mul_(16)
    right = float((problem.network(problem.images).argmax(1) == problem.labels).double().mean())
    rows = {name: problem.run(name, "linf", (0.1,)).rows for name in ("pgd", "adaptive")}
    naive, through = (rows[name]["status"].to_pylist().count("adversarial") / 200 for name in ("pgd", "adaptive"))
    assert right > 0.8
    assert np.count_nonzero(rows["pgd"]["zero_gradients"].to_numpy()) > 80
    assert through > 1.5 * naive
