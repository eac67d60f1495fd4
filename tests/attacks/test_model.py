"""The attacked copy: what it counts, what it leaves alone, whom it asks for success."""

from __future__ import annotations

import pytest
import torch
from attack_problems import Affine, Problem, affine_problem
from torch import Tensor, nn

from gauntlet.attacks.bounded import pgd
from gauntlet.attacks.model import AttackModel
from gauntlet.attacks.objectives import cross_entropy, margin
from gauntlet.errors import GauntletError, InputError


def test_each_use_is_booked_on_the_samples_that_caused_it(convolutional: Problem) -> None:
    """Forwards and backwards count per sample, in batches, under an active set, and several copies of a sample."""
    model = AttackModel(convolutional.network, batch_size=4)
    x, y = convolutional.images, convolutional.labels
    model.start_counting(len(x))
    model.gradients(x, y, margin)
    with model.rows(torch.tensor([2, 5])):
        model.logits(x[[2, 5]])
        with torch.no_grad():
            model(x[[2, 2, 2, 5, 5, 5]])
    expected = torch.ones(len(x), dtype=torch.int64)
    assert torch.equal(model.backwards, expected)
    expected[[2, 5]] += 4
    assert torch.equal(model.forwards, expected)


def test_a_backward_by_any_road_is_counted(convolutional: Problem) -> None:
    """A library that calls `backward()` on a loss of its own, twice, is counted twice."""
    model = AttackModel(convolutional.network)
    model.start_counting(3)
    x = convolutional.images[:3].clone().requires_grad_(True)
    loss = model(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert model.backwards.tolist() == [2, 2, 2]


def test_a_fooled_sample_costs_nothing_more() -> None:
    """PGD spends a forward and a backward a step only on samples that still hold; one more forward confirms."""
    problem = affine_problem(2, (1, 8, 8), 3)
    distance = problem.network.nearest(problem.images, problem.labels, "linf")  # type: ignore[operator]
    near, far = int(distance.argmin()), int(distance.argmax())
    model = AttackModel(problem.network)
    model.start_counting(3)
    epsilon = float(distance.sort().values[1] + distance.max()) / 2
    keys = torch.arange(3)
    pgd(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=keys, steps=20)
    assert model.backwards[far] == model.forwards[far] == 20
    assert model.backwards[near] < 20
    assert model.forwards[near] == model.backwards[near] + 1


def test_the_given_network_is_not_changed(convolutional: Problem) -> None:
    """Neither hooks nor gradients nor frozen parameters nor another memory layout are left on it."""
    network = convolutional.network
    model = AttackModel(network)
    model.start_counting(15)
    model.gradients(convolutional.images, convolutional.labels, margin)
    model.confirm(convolutional.images, convolutional.labels)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    assert not network._forward_hooks


def test_success_is_what_the_plain_model_says() -> None:
    """A candidate that only the reduced-precision copy sees is not confirmed."""
    problem = affine_problem(2, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    model.start_counting(2)
    lying = torch.zeros(2, 2).scatter_(1, 1 - problem.labels[:, None], 1.0)
    fooled = model.fooled(lying, problem.images, problem.labels)
    assert fooled is not None
    assert not fooled.any()
    assert model.fooled(-lying, problem.images, problem.labels) is None


class WithView(nn.Module):
    """Logits without gradient, and a view with one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.inner(x).detach().round(decimals=3) + 0 * x.flatten(1)[:, :1]

    @property
    def surrogates(self) -> dict[str, object]:
        """Offer views by name."""
        return {"logits": self.forward, "inside": self.inner}


def test_gradients_come_from_the_surrogate_and_success_from_the_model() -> None:
    """A masked gradient is zero; through the surrogate it is not; the logits stay the model's own; all is counted."""
    problem = affine_problem(3, (1, 8, 8), 4)
    network = WithView().eval()
    for surrogate, alive, forwards in (("logits", False, 1), ("inside", True, 2)):
        model = AttackModel(network, surrogate=surrogate)
        model.start_counting(4)
        logits, gradient = model.gradients(problem.images, problem.labels, cross_entropy)
        assert bool(gradient.any()) is alive
        assert torch.allclose(logits, network(problem.images))
        assert model.forwards.tolist() == [forwards] * 4
        assert model.backwards.tolist() == [1] * 4
    with pytest.raises(InputError, match=r"no surrogate 'outside'.*inside"):
        AttackModel(network, surrogate="outside")


def test_halving_ends_at_one(convolutional: Problem) -> None:
    """When a single image does not fit, the error says so."""
    model = AttackModel(convolutional.network, batch_size=5)
    model.halve()
    assert model.batch_size == 2
    model.halve()
    with pytest.raises(GauntletError, match="out of memory with a batch of one"):
        model.halve()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_every_precision_breaks_the_model(precision: str) -> None:
    """An attack in bfloat16 or float64 finds what one in float32 finds, and is judged all the same."""
    problem = affine_problem(3, (1, 8, 8), 5)
    epsilon = float(problem.network.nearest(problem.images, problem.labels, "linf").max()) * 1.2  # type: ignore[operator]
    rows = problem.run("pgd", "linf", (epsilon,), precision=precision).rows
    assert rows["status"].to_pylist() == ["adversarial"] * 5
