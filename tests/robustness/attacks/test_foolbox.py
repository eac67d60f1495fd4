"""The Foolbox adapter: options, defects it corrects, and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.robustness.attacks.adapters.foolbox import FoolboxAttack, adapt
from gauntlet.robustness.attacks.adapters.per_sample_draws import PerSampleDraws
from tests.support.attack_problems import Problem


class Bright(nn.Module):
    """Model of class 0 above a mean brightness of 0.2, so that uniform noise is almost always class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(50.0))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        level = self.scale * (x.flatten(1).mean(1) - 0.2)
        return torch.stack([level, -level], 1)


@pytest.mark.parametrize("name", ["BoundaryAttack", "HopSkipJumpAttack"])
def test_a_failed_starting_point_concerns_its_sample_only(name: str) -> None:
    """A sample without an adversarial start is robust; the others are attacked, and nothing is raised."""
    images = torch.full((4, 1, 8, 8), 0.1)
    images[1] = 0.6  # class 0, as is all noise: no starting point
    images += torch.linspace(0, 0.01, 4).reshape(4, 1, 1, 1)
    problem = Problem(Bright().eval(), images, torch.tensor([1, 0, 1, 1]))
    result = problem.run(f"foolbox:{name}", "l2", options={"steps": 3})
    assert result.rows["status"].to_pylist() == ["adversarial", "robust", "adversarial", "adversarial"]


def test_the_initial_attack_is_an_option(convolutional: Problem) -> None:
    """`init_attack` takes a Foolbox attack with or without options; an unknown one is refused with the nearest."""
    for start in ("SaltAndPepperNoiseAttack", {"name": "foolbox:LinearSearchBlendedUniformNoiseAttack", "steps": 20}):
        options = {"steps": 5, "init_attack": start}
        assert (
            "adversarial"
            in convolutional.run("foolbox:BoundaryAttack", "l2", options=options).rows["status"].to_pylist()
        )
    with pytest.raises(InputError, match="SaltAndPepperNoiseAttack"):
        convolutional.run("foolbox:BoundaryAttack", "l2", options={"init_attack": "SaltPepperNoiseAttack"})


def test_the_defective_attack_warns() -> None:
    """Foolbox's L2FMN runs with a warning that recommends DDN."""
    with pytest.warns(UserWarning, match="DDNAttack"):
        adapt("L2FMNAttack")


@pytest.mark.parametrize(
    ("name", "wanted"), [("LinfPDG", "LinfPGD"), ("DatasetAttack", "LinearSearch"), ("os", "known")]
)
def test_unusable_classes_are_refused(name: str, wanted: str) -> None:
    """Unknown classes, attacks on other images, and classes that are no attack are refused."""
    with pytest.raises(InputError, match=wanted):
        adapt(name)


def test_options_are_translated_to_those_of_the_class(convolutional: Problem) -> None:
    """`step_size` and the norm have the class's names, and early stopping on the whole batch is off."""
    assert FoolboxAttack("LinfPGD")._build({"step_size": 0.25}, "linf").abs_stepsize == 0.25
    wagner = FoolboxAttack("L2CarliniWagnerAttack")._build({"step_size": 0.25, "abort_early": True}, "l2")
    assert wagner.stepsize == 0.25
    assert wagner.abort_early is False
    assert FoolboxAttack("HopSkipJumpAttack")._build({}, "linf").constraint == "linf"
    assert FoolboxAttack("InversionAttack")._build({}, "l1").distance.p == 1
    with pytest.raises(InputError, match="works in linf, not in l2"):
        FoolboxAttack("LinfPGD")._build({}, "l2")
    with pytest.raises(InputError, match="has no step size"):
        FoolboxAttack("DDNAttack")._build({"step_size": 0.1}, "l2")


def test_restarts_keep_the_best_result(convolutional: Problem) -> None:
    """More restarts break at least as many samples, or end at least as near."""
    from gauntlet.registry import Spec
    from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate

    def run(name: str, norm: str, epsilons: tuple[float, ...] | None, **options: object) -> list[float]:
        plan = AttackSettings("a", Spec(name, options), norm, epsilons)
        rows = evaluate(
            convolutional.network, convolutional.images, convolutional.labels, plan, identity=CellIdentity()
        ).rows
        return [9.0 if value is None else value for value in rows["epsilon"].to_pylist()]

    for name, norm, epsilons, options in (
        ("foolbox:LinfAdditiveUniformNoiseAttack", "linf", (0.2,), {}),
        ("foolbox:SaltAndPepperNoiseAttack", "l2", None, {"steps": 5}),
    ):
        one, many = run(name, norm, epsilons, **options), run(name, norm, epsilons, restarts=6, **options)
        assert all(b <= a for a, b in zip(one, many, strict=True))
        assert sum(many) < sum(one)


def test_draws_belong_to_the_sample() -> None:
    """A draw for sample b depends on key b, whatever the batch axis; other draws are shared."""
    keys = torch.tensor([5, 6, 7])

    def draws(which: Tensor) -> list[Tensor]:
        size = len(which)
        with PerSampleDraws(which, (1, 4, 4), stream="s"):
            image = torch.rand(size, 1, 4, 4)
            steps_first = torch.randn((3, size, 1, 4, 4))
            return [
                image,
                steps_first.movedim(1, 0),
                torch.rand(16, 1),
                torch.rand_like(image),
                torch.randint(9, (size, 2)),
            ]

    together, alone = draws(keys), draws(keys[1:2])
    for number in (0, 1, 3, 4):
        assert torch.equal(together[number][1], alone[number][0])
        assert not torch.equal(together[number][1], together[number][0])
    assert torch.equal(together[2], alone[2])
    assert not torch.equal(together[0], together[3])


def test_projections_that_rounding_undoes_end_in_the_ball() -> None:
    """In L1 the rounding of 150 528 entries adds up to more than the evaluator's tolerance."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 224, 224, generator=generator) / 2 + 0.25
    linear = nn.Linear(images.numel(), 2)
    linear.weight.data = 0.01 * torch.randn(linear.weight.shape, generator=generator)
    linear.bias.data = torch.tensor([10.0, 0.0])
    problem = Problem(nn.Sequential(nn.Flatten(), linear).eval(), images, torch.tensor([0]))
    result = problem.run("foolbox:L1PGD", "l1", (0.05,), options={"steps": 3})
    assert result.rows["status"].to_pylist() == ["robust"]
    assert not result.errors
