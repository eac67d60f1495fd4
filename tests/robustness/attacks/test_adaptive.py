"""The adaptive attack: it tries the surrogates that a network names, in order, and breaks masked gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.adaptive import adaptive
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support.attack_problems import Affine, Problem, affine_problem
from tests.support.trained_problems import trained_problem


class Masked(nn.Module):
    """Affine model with rounded logits, and the unrounded ones as a second surrogate."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)
        self.asked: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return rounded logits, with a gradient of 1e-5 of the pixels' mean."""
        return self.inner(x).detach().round(decimals=3) + 1e-5 * x.flatten(1)[:, :3]

    @property
    def surrogates(self) -> dict[str, object]:
        """Return the surrogates by name."""
        return {"logits": self.forward, "inside": self.inner}

    @property
    def adaptive(self) -> tuple[tuple[str, str], ...]:
        """Return the masked surrogate first."""
        return (("logits", "cross_entropy"), ("inside", "margin"))


def test_every_named_surrogate_is_tried_on_robust_samples() -> None:
    """The second surrogate breaks samples that the first does not, and the attack's own one is restored."""
    problem = affine_problem(3, (1, 8, 8), 4)
    epsilon = 1.1 * float(problem.network.nearest(problem.images, problem.labels, "linf").max())  # type: ignore[operator]
    masked = Problem(Masked().eval(), problem.images, problem.labels)
    assert masked.run("pgd", "linf", (epsilon,)).rows["status"].to_pylist() == ["robust"] * 4
    assert masked.run("adaptive", "linf", (epsilon,)).rows["status"].to_pylist() == ["adversarial"] * 4
    model = AttackModel(masked.network)
    model.start_counting(4)
    adaptive(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=torch.arange(4), steps=5)
    assert model.surrogate is None


def test_it_stops_when_no_sample_is_robust() -> None:
    """A sample broken at once costs one run; a robust one costs an untargeted run and one per rival, per pair."""
    problem = affine_problem(3, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    for epsilon, most in ((0.4, 5), (1e-3, 2 * 3 * 5)):  # no pairs named: the margin of the logits, two rivals
        model.start_counting(2)
        adaptive(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=torch.arange(2), steps=5)
        assert int(model.counts.totals["backwards"].max()) <= most
    assert model.counts.totals["backwards"].tolist() == [3 * 5] * 2


def test_it_breaks_saturated_codes_that_withstand_gradients_of_their_logits() -> None:
    """Code bits sixteen times as large keep their signs, but most gradients behind tanh and decoder vanish."""
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


class OwnNames(nn.Module):
    """Affine model with a layer and a list of its own, of the names that networks use for what they offer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)
        self.adaptive = nn.AdaptiveAvgPool2d(8)
        self.surrogates = nn.ModuleList()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.inner(self.adaptive(x))
        return logits


def test_a_layer_of_the_name_is_no_list_of_surrogates() -> None:
    """The attack takes the logits with the margin, and an unknown surrogate is refused as elsewhere."""
    problem = affine_problem(3, (1, 8, 8), 4)
    epsilon = 1.1 * float(problem.network.nearest(problem.images, problem.labels, "linf").max())  # type: ignore[operator]
    named = Problem(OwnNames().eval(), problem.images, problem.labels)
    assert named.run("adaptive", "linf", (epsilon,)).rows["status"].to_pylist() == ["adversarial"] * 4
    with pytest.raises(InputError, match="offers no surrogate 'inside'"):
        AttackModel(named.network, surrogate="inside")
