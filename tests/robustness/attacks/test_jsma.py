"""JSMA where the answer is known, and its search for pairs against all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.robustness.attacks.jsma import best_pair
from tests.support.attack_problems import Problem


class Linear(nn.Module):
    """Logits W x + b of 2x3 images."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return x.flatten(1) @ self.weight.T + self.bias


def dominant_pairs(theta: float) -> Problem:
    """Return a model in which pixels 1 and 4 (of six) decide for class 1, and 0 and 2 less so for class 2."""
    weight = torch.tensor(
        [[0.0, -2.0, 0.0, -0.1, -2.0, 0.0], [0.0, 2.0, 0.0, 0.1, 2.0, 0.0], [1.6, 0.0, 1.6, 0.2, 0.0, 0.3]]
    )
    images = torch.full((2, 1, 2, 3), 0.1)
    images[1] += 0.05
    bias = torch.tensor([5.0, 0.0, 0.0])
    if theta < 0:
        images, weight, bias = 1 - images, -weight, bias + weight.sum(1)
    network = Linear(weight, bias).eval()
    return Problem(network, images, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("theta", [1.0, -1.0])
def test_the_dominant_pair_is_changed_and_nothing_else(theta: float) -> None:
    """The dominant pair is found for either sign of theta, and rows count the changed pixels."""
    problem = dominant_pairs(theta)
    result = problem.run("jsma", "l0", options={"theta": theta, "gamma": 1.0})
    assert result.rows["epsilon"].to_pylist() == [2.0, 2.0]
    changed = torch.tensor(result.examples["adversarial"] - result.examples["original"]).flatten(1) != 0
    assert changed.nonzero()[:, 1].tolist() == [1, 4, 1, 4]
    assert (torch.tensor(result.examples["adversarial"]).flatten(1)[:, [1, 4]] == max(theta, 0.0)).all()


def test_it_stops_where_no_pair_qualifies() -> None:
    """Without a pair that raises the target and lowers the others, no pixel changes."""
    network = Linear(torch.tensor([[1.0] * 6, [0.5] * 6]), torch.tensor([1.0, 0.0])).eval()
    problem = Problem(network, torch.rand(4, 1, 2, 3), torch.zeros(4, dtype=torch.int64))
    rows = problem.run("jsma", "l0", options={"gamma": 1.0}).rows
    assert rows["status"].to_pylist() == ["robust"] * 4
    assert rows["l0"].to_pylist() == [0.0] * 4
    assert max(rows["backwards"].to_pylist()) == 2


def test_gamma_bounds_the_number_of_changed_values() -> None:
    """A share below one pair changes nothing, and a target's budget is the smallest of all its attempts."""
    problem = dominant_pairs(1.0)
    few = problem.run("jsma", "l0", options={"gamma": 0.3}).rows
    assert few["status"].to_pylist() == ["robust"] * 2
    many = problem.run("jsma", "l0", options={"gamma": 1.0}).rows
    assert many["epsilon"].to_pylist() == [2.0, 2.0]


def test_the_result_does_not_depend_on_the_batch(convolutional: Problem) -> None:
    """A sample's row is the same alone and in a batch, and most samples are fooled."""
    options = {"gamma": 0.5}
    rows = convolutional.run("jsma", "l0", options=options, precision="float64").rows.drop(["index"]).to_pylist()
    assert sum(row["status"] == "adversarial" for row in rows) >= 8
    alone = convolutional.run("jsma", "l0", options=options, precision="float64", batch_size=1, part_size=1).rows
    assert alone.drop(["index"]).to_pylist() == rows


def test_the_best_of_all_pairs_is_found() -> None:
    """The search in the first two layers of the Pareto front equals that over all pairs."""
    random = torch.Generator().manual_seed(4)
    for case in range(30):
        rise, fall = torch.randn(2, 6, 25, generator=random)
        if case % 3 == 1:  # ties
            rise, fall = rise.round(), fall.round()
        if case % 3 == 2:  # a wide front
            fall = 1 - rise + 0.01 * fall
        free = torch.rand(6, 25, generator=random) < (0.05 if case == 0 else 0.7)
        first, second, qualified = best_pair(rise, fall, free)
        lift, drop = rise[:, :, None] + rise[:, None], fall[:, :, None] + fall[:, None]
        allowed = (lift > 0) & (drop > 0) & free[:, :, None] & free[:, None] & ~torch.eye(25, dtype=torch.bool)
        value = torch.where(allowed, lift * drop, 0.0)
        assert torch.equal(qualified, value.flatten(1).amax(1) > 0)
        row = torch.arange(6)
        assert torch.equal(value[row, first, second][qualified], value.flatten(1).amax(1)[qualified])


def test_theta_of_zero_is_refused(convolutional: Problem) -> None:
    """A theta of 0 is refused in one line."""
    with pytest.raises(InputError, match="theta is 0"):
        convolutional.run("jsma", "l0", options={"theta": 0.0})
