"""The attacked copy of a model: query counts, isolation from the original, and confirmation of success."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import InputError
from gauntlet.learning.models.build import build
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.pgd import pgd
from tests.support.attack_problems import Affine, Problem, affine_problem


def test_queries_are_counted_per_sample(convolutional: Problem) -> None:
    """Forwards and backwards are counted in batches, active sets and repeated samples."""
    model = AttackModel(convolutional.network, batch_size=4)
    x, y = convolutional.images, convolutional.labels
    model.start_counting(len(x))
    model.gradients(x, y, UNTARGETED_LOSSES["margin"])
    with model.subset(torch.tensor([2, 5])):
        model.logits(x[[2, 5]])
        with torch.no_grad():
            model(x[[2, 2, 2, 5, 5, 5]])
    expected = torch.ones(len(x), dtype=torch.int64)
    assert torch.equal(model.counts.totals["backwards"], expected)
    expected[[2, 5]] += 4
    assert torch.equal(model.counts.totals["forwards"], expected)


def test_every_backward_is_counted(convolutional: Problem) -> None:
    """Two `backward()` calls by a library on its own loss count as two."""
    model = AttackModel(convolutional.network)
    model.start_counting(3)
    x = convolutional.images[:3].clone().requires_grad_(True)
    loss = model(x).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert model.counts.totals["backwards"].tolist() == [2, 2, 2]


def test_a_fooled_sample_costs_nothing_more() -> None:
    """PGD spends a forward and a backward per step on robust samples, one forward on its full step, one to confirm."""
    problem = affine_problem(2, (1, 8, 8), 3)
    distance = problem.network.nearest(problem.images, problem.labels, "linf")  # type: ignore[operator]
    near, far = int(distance.argmin()), int(distance.argmax())
    model = AttackModel(problem.network)
    model.start_counting(3)
    epsilon = float(distance.sort().values[1] + distance.max()) / 2
    keys = torch.arange(3)
    pgd(model, problem.images, problem.labels, norm="linf", epsilon=epsilon, keys=keys, steps=20)
    assert model.counts.totals["backwards"][far] == 20
    assert model.counts.totals["forwards"][far] == 21
    assert model.counts.totals["backwards"][near] < 20
    assert model.counts.totals["forwards"][near] == model.counts.totals["backwards"][near] + 2


def test_the_given_network_is_not_changed(convolutional: Problem) -> None:
    """It keeps its hooks, gradients, parameters and memory layout."""
    network = convolutional.network
    model = AttackModel(network)
    model.start_counting(15)
    model.gradients(convolutional.images, convolutional.labels, UNTARGETED_LOSSES["margin"])
    model.confirm(convolutional.images, convolutional.labels)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    assert not network._forward_hooks


def test_success_is_decided_by_the_original_model() -> None:
    """A candidate that fools only the low-precision copy is not confirmed."""
    problem = affine_problem(2, (1, 8, 8), 2)
    model = AttackModel(problem.network)
    model.start_counting(2)
    lying = torch.zeros(2, 2).scatter_(1, 1 - problem.labels[:, None], 1.0)
    fooled = model.is_adversarial(lying, problem.images, problem.labels)
    assert fooled is not None
    assert not fooled.any()
    assert model.is_adversarial(-lying, problem.images, problem.labels) is None


class WithSurrogate(nn.Module):
    """Logits without gradient, and a surrogate with one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.inner(x).detach().round(decimals=3) + 0 * x.flatten(1)[:, :1]

    @property
    def surrogates(self) -> dict[str, object]:
        """Return the surrogates by name."""
        return {"logits": self.forward, "inside": self.inner}


def test_gradients_come_from_the_surrogate_and_success_from_the_model() -> None:
    """The masked gradient is zero, the surrogate's is not; logits stay the model's, and all is counted."""
    problem = affine_problem(3, (1, 8, 8), 4)
    network = WithSurrogate().eval()
    for surrogate, alive, forwards in (("logits", False, 1), ("inside", True, 2)):
        model = AttackModel(network, surrogate=surrogate)
        model.start_counting(4)
        slope = model.gradients(problem.images, problem.labels, UNTARGETED_LOSSES["cross_entropy"])
        assert bool(slope.gradient.any()) is alive
        assert torch.allclose(slope.logits, network(problem.images))
        assert model.counts.totals["forwards"].tolist() == [forwards] * 4
        assert model.counts.totals["backwards"].tolist() == [1] * 4
    with pytest.raises(InputError, match=r"no surrogate 'outside'.*inside"):
        AttackModel(network, surrogate="outside")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
def test_every_precision_breaks_the_model(precision: str) -> None:
    """Attacks in bfloat16, float32 and float64 break the same samples."""
    problem = affine_problem(3, (1, 8, 8), 5)
    epsilon = float(problem.network.nearest(problem.images, problem.labels, "linf").max()) * 1.2  # type: ignore[operator]
    rows = problem.run("pgd", "linf", (epsilon,), precision=precision).rows
    assert rows["status"].to_pylist() == ["adversarial"] * 5


def test_a_confirmed_image_is_not_judged_again(convolutional: Problem) -> None:
    """Any other image, however near, and any that was refused is judged anew, and not kept until then."""
    model = AttackModel(convolutional.network)
    x = convolutional.images
    judged = torch.zeros(len(x), dtype=torch.bool)
    judged[::2] = True
    # The judge refuses the first two of those that it is asked about.
    refused = torch.zeros_like(judged)
    refused[:4:2] = True
    predictions = model.judge.logits(x).argmax(1)
    y = torch.where(refused, predictions, (predictions + 1) % 3)
    model.start_counting(len(x))
    with model.subset(torch.arange(0, len(x), 2)):
        assert torch.equal(model.confirm(x[::2], y[::2]), ~refused[::2])
    asked: list[int] = []
    judge = model.judge.logits
    model.judge.logits = lambda images: asked.append(len(images)) or judge(images)  # type: ignore[method-assign, func-returns-value]
    assert torch.allclose(model.final_logits(x), judge(x), atol=1e-6)
    moved = x.clone()
    moved[4, 0, 0, 0] = 0.5 * moved[4, 0, 0, 0] + 0.2
    assert torch.allclose(model.final_logits(moved), judge(moved), atol=1e-6)
    unknown = int((refused | ~judged).sum())
    assert asked == [unknown, unknown + 1]


def test_logits_and_surrogate_of_a_network_share_its_features() -> None:
    """One forward gives both, with the logits of a pass of their own; a network with another `outputs` pays for two."""
    spec = Spec("cnn", {"widths": [4], "head": {"name": "ecc"}})
    network = build(spec, image_shape=(1, 8, 8), num_classes=4, mean=[0.0], std=[1.0]).eval()
    x, y = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0])

    class Doubled(type(network)):  # type: ignore[misc]
        def outputs(self, x: Tensor) -> Tensor:
            return super().outputs(x) * 2

    for kind, forwards in ((type(network), 1), (Doubled, 2)):
        network.__class__ = kind
        model = AttackModel(network, surrogate="code_bits")
        model.start_counting(len(x))
        logits = model.gradients(x, y, UNTARGETED_LOSSES["margin"]).logits
        assert model.counts.totals["forwards"].tolist() == [forwards] * 5
        assert logits is not None
        assert torch.equal(logits, model.logits(x))
