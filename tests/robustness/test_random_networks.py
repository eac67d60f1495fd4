"""Random networks: addressed draws, fresh ones for the final judgment, and probes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import gauntlet
from gauntlet.core.errors import InputError
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.autoattack import autoattack
from gauntlet.robustness.attacks.base.ascent import KeptPoints
from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.diagnostics.probes import run_probes
from gauntlet.robustness.evaluation import AttackSettings
from gauntlet.robustness.evaluation.attack_runner import AttackRunner
from gauntlet.robustness.random_networks import mean_logits, mean_over_draws
from tests.support.diagnosed_networks import digits

IMAGES = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Module:
    """Return a small network, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()


class Random(nn.Module):
    """The plain network with random numbers in its forward."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any], inner: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.change = inner or plain(), change
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """Map images to logits."""
        return self.change(self.inner, x)


_GENERATOR = torch.Generator()


def _resized(network: nn.Module, x: Tensor) -> Any:
    """Random resizing and padding, one size for the whole batch (Xie et al. 2018, arXiv:1711.01991)."""
    size = int(torch.randint(5, 9, ()))
    smaller = functional.interpolate(x, size=(size, size))
    left = int(torch.randint(0, 9 - size, ()))
    return network(functional.pad(smaller, (left, 8 - size - left, 0, 8 - size)))


ADDRESSED: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "normal": lambda n, x: n(x + 0.2 * torch.randn_like(x)),
    "normal, of a shape": lambda n, x: n(x + 0.2 * torch.randn(len(x), 1, 8, 8)),
    "normal, in place": lambda n, x: n(x + torch.empty_like(x).normal_(0.1, 0.2)),
    "uniform": lambda n, x: n(x + 0.3 * torch.rand_like(x)),
    "uniform, in place": lambda n, x: n(x + torch.empty_like(x).uniform_(-0.2, 0.2)),
    "dropout": lambda n, x: functional.dropout(n(x), 0.3, training=True),
    "dropout of channels": lambda n, x: n(functional.dropout2d(x, 0.3, training=True)),
    "a mask": lambda n, x: n(x * torch.bernoulli(torch.full_like(x, 0.8))),
    "a distribution": lambda n, x: n(torch.distributions.Normal(x, 0.2).rsample()),
    "exponential": lambda n, x: n(x) + torch.empty(len(x), 10).exponential_(),
    "large images": lambda n, x: n(functional.avg_pool2d(torch.randn(len(x), 1, 72, 72), 9) + x),
    "groups of the batch": lambda n, x: n(x + 0.2 * torch.randn(2 * len(x), 1, 4, 8).reshape(x.shape)),
    "a second dimension": lambda n, x: n(x) + torch.randn(10, len(x)).T,
    "a generator of its own": lambda n, x: n(x + 0.2 * torch.randn(x.shape, generator=_GENERATOR)),
    "one number for all": lambda n, x: n(x + 0.3 * torch.randn(())),
    "one image for all": lambda n, x: n(x + 0.3 * torch.randn(1, 1, 8, 8)),
    "resizing": _resized,
    "NumPy, one number for all": lambda n, x: n(x + float(np.random.rand())),
    "Python, one number for all": lambda n, x: n(x + random.random()),
}


@pytest.mark.parametrize("most_rows", [None, 64, 32, 20, 4, 1])
def test_draws_depend_on_the_image_alone_when_memory_is_short(most_rows: int | None) -> None:
    """A draw for all images, of a size that a small number of rows divides, is not taken for one per image."""
    network = Random(lambda n, x: n(x + 0.2 * torch.randn(1, 64, 1, 1)[:, :1] + 0.2 * torch.randn(1, 3, 8, 8)[:, :1]))
    outputs = [
        mean_over_draws(network, x, draws=3, stream="a", most_rows=most_rows).flip(order)
        for x, order in ((IMAGES, ()), (IMAGES.flip(0), (0,)))
    ]
    assert torch.allclose(*outputs, atol=1e-5)


@pytest.mark.parametrize("change", ADDRESSED.values(), ids=ADDRESSED.keys())
def test_draws_depend_on_the_image_alone(change: Any) -> None:
    """Alone, in another order, and later, an image has the same outputs; another stream gives others."""
    network = Random(change)

    def outputs(x: Tensor, stream: str = "a") -> Tensor:
        with torch.no_grad():
            return mean_over_draws(network, x, draws=3, stream=stream)

    state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    together = outputs(IMAGES)
    alone = torch.cat([outputs(image[None]) for image in IMAGES])
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together.flip(0), outputs(IMAGES.flip(0)), atol=1e-5)
    assert not torch.allclose(together, outputs(IMAGES, "b"), atol=1e-3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


DISTRIBUTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "normal": (torch.randn_like, 0.0, 1.0),
    "uniform": (torch.rand_like, 0.5, 1 / 12),
    "bernoulli": (lambda x: torch.bernoulli(torch.full_like(x, 0.3)), 0.3, 0.21),
    "bernoulli, one probability": (lambda x: torch.bernoulli(torch.zeros_like(x), 0.3), 0.3, 0.21),
    "bernoulli, in place": (lambda x: torch.zeros_like(x).bernoulli_(0.3), 0.3, 0.21),
    "bernoulli, in place, tensor": (lambda x: torch.zeros_like(x).bernoulli_(torch.full_like(x, 0.3)), 0.3, 0.21),
    "uniform, named bounds": (lambda x: torch.zeros_like(x).uniform_(to=3.0), 1.5, 9 / 12),
    "normal, in place": (lambda x: torch.zeros_like(x).normal_(1.0, 2.0), 1.0, 4.0),
    "normal, of means": (lambda x: torch.normal(torch.ones_like(x), 2.0), 1.0, 4.0),
    "exponential": (lambda x: torch.empty_like(x).exponential_(), 1.0, 1.0),
}


@pytest.mark.parametrize(("draw", "mean", "variance"), DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
def test_draws_are_independent_and_have_their_distribution(draw: Any, mean: float, variance: float) -> None:
    """Mean and variance are right, and no two images or passes draw alike."""
    seen: list[Tensor] = []

    def forward(x: Tensor) -> Tensor:
        seen.append(draw(x).flatten(1))
        return x.flatten(1)

    mean_over_draws(forward, IMAGES[:31], draws=20, stream="a")
    values = torch.cat(seen[:-1]).double()  # The last pass is filled up.
    assert abs(float(values.mean()) - mean) < 5 * (variance / values.numel()) ** 0.5
    assert float(values.var()) == pytest.approx(variance, rel=0.05)
    correlation = torch.corrcoef(values) - torch.eye(len(values))
    assert float(correlation.abs().max()) < 0.85


def test_the_gradient_is_that_of_the_mean() -> None:
    """Gradients pass through the draws, and each image has its own."""
    network = Random(ADDRESSED["normal"])
    x = IMAGES[:5].clone().requires_grad_(True)
    (together,) = torch.autograd.grad(mean_over_draws(network, x, draws=4, stream="a")[:, 0].sum(), x)
    y = IMAGES[2:3].clone().requires_grad_(True)
    (alone,) = torch.autograd.grad(mean_over_draws(network, y, draws=4, stream="a")[:, 0].sum(), y)
    assert torch.allclose(together[2:3], alone, atol=1e-6)
    assert together.any()


def test_noise_that_cannot_be_addressed_is_refused() -> None:
    """NumPy's noise in the batch's shape depends on the position, and a generator of NumPy on earlier passes."""
    own = np.random.default_rng(0)
    labels = torch.zeros(40, dtype=torch.int64)
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.05], "steps": 2, "draws": 4}
    for change, complaint in (
        (lambda n, x: n(x + torch.from_numpy(0.1 * np.random.randn(*x.shape)).to(x)), "draws depend on the other"),
        (lambda n, x: n(x + 0.1 * float(own.normal())), "differ between two passes .* equal random seeds"),
    ):
        with pytest.raises(InputError, match=complaint):
            gauntlet.evaluate(Random(change), IMAGES, labels, attack)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network for the digits with noise of 0.25 on its input."""
    x, y, _, _ = digits()
    network = plain().train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for rows in torch.randint(len(x), (80, 128), generator=torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        noise = 0.25 * torch.randn(x[rows].shape, generator=torch.Generator().manual_seed(int(rows[0])))
        functional.cross_entropy(network(x[rows] + noise), y[rows]).backward()
        optimizer.step()
    return Random(lambda n, x: n(x + 0.25 * torch.randn_like(x)), network.eval())


def test_rows_of_a_random_model_do_not_depend_on_the_batch(trained: nn.Module) -> None:
    """Neither on its size nor on the order."""
    _, _, x, y = digits()
    x, y = x[:9], y[:9]
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.1], "steps": 2, "draws": 2}
    expected = gauntlet.evaluate(trained, x, y, attack)
    smaller = gauntlet.evaluate(trained, x, y, attack, batch_size=4)
    opposite = gauntlet.evaluate(trained, x.flip(0), y.flip(0), attack)
    for column in ("status", "clean_prediction", "adversarial_prediction", "epsilon", "forwards", "sample_hash"):
        assert smaller[column].to_pylist() == expected[column].to_pylist()
        assert opposite[column].to_pylist()[::-1] == expected[column].to_pylist()
    assert smaller["l2"].to_pylist() == pytest.approx(expected["l2"].to_pylist(), rel=1e-4)
    assert smaller["clean_confidence"].to_pylist() == pytest.approx(expected["clean_confidence"].to_pylist(), rel=1e-4)


def test_the_judged_rate_is_the_rate_on_fresh_draws(trained: nn.Module) -> None:
    """The share of images judged adversarial equals that under 200 other passes, up to their noise."""
    _, _, x, y = digits()
    x, y = x[:60], y[:60]
    model = AttackModel(trained, draws=5)
    correct = model.judge.logits(x).argmax(1) == y
    x, y = x[correct], y[correct]
    spec = Spec("pgd", {"steps": 4, "restarts": 1, "step_size": None, "loss": "cross_entropy"})
    runner = AttackRunner(model, AttackSettings("a", spec, "linf", (0.1,), draws=5))
    images, logits, _ = runner(x, y, torch.arange(len(x)), 0.1)
    judged = logits.argmax(1) != y
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        fresh = mean_logits([trained(images) for _ in range(200)]).argmax(1) != y
    assert 0.1 < float(judged.double().mean()) < 0.9
    assert abs(float(judged.double().mean()) - float(fresh.double().mean())) < 0.06
    assert int((judged != fresh).sum()) <= 5


def test_draws_have_no_effect_on_a_model_that_is_not_random() -> None:
    """Its rows are those of one pass, at the cost of one pass."""
    labels = plain()(IMAGES).argmax(1)
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.05], "steps": 3}
    assert gauntlet.evaluate(plain(), IMAGES, labels, {**attack, "draws": 20}).equals(
        gauntlet.evaluate(plain(), IMAGES, labels, attack)
    )


def test_passes_of_a_random_model_are_counted() -> None:
    """A gradient over four draws counts four forwards and backwards, a confirmation each pass of the judge."""
    model = AttackModel(Random(ADDRESSED["normal"]), draws=4)
    model.start_counting(len(IMAGES))
    labels = torch.zeros(len(IMAGES), dtype=torch.int64)
    model.gradients(IMAGES, labels, UNTARGETED_LOSSES["margin"])
    assert model.counts.totals["forwards"].tolist() == model.counts.totals["backwards"].tolist() == [4] * 40
    model.confirm(IMAGES, labels)
    assert model.counts.totals["forwards"].tolist() == [4 + model.judge.draws] * 40


def test_a_random_model_is_probed_with_draws(trained: nn.Module) -> None:
    """The probes give the same rows for each batch size, and refuse without draws."""
    _, _, x, y = digits()
    options: dict[str, Any] = {"epsilons": {"linf": (0.1,)}, "samples": 3, "steps": 1}
    rows = run_probes(trained, x[:6], y[:6], draws=2, **options)
    assert len(rows) > 8
    assert rows.equals(run_probes(trained, x[:6], y[:6], draws=2, batch_size=2, **options))
    with pytest.raises(InputError, match="set `draws: 20`"):
        run_probes(trained, x[:8], y[:8], **options)


def test_a_nearest_success_is_judged_where_fresh_draws_agree() -> None:
    """Half of the points on the boundary of a mean are refused by other draws; they move outward and are not robust."""
    network = Random(ADDRESSED["normal"])
    with torch.no_grad():
        labels = plain()(IMAGES).argmax(1)
    attack = {"name": "fab", "norm": "l2", "steps": 10, "targets": 2, "draws": 10}
    rows = gauntlet.evaluate(network, IMAGES, labels, attack).to_pylist()
    attacked = [row for row in rows if row["status"] != "already_wrong"]
    assert [row["status"] for row in attacked] == ["adversarial"] * len(attacked)
    assert all(row["epsilon"] == row["l2"] > 0 for row in attacked)


class Threshold(nn.Module):
    """Two classes, of which the first is likelier where an image's mean exceeds 0.5; one random number per image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        response = 8 * (x.flatten(1).mean(1) - 0.5) + torch.randn(len(x), 1)[:, 0]
        return torch.stack((response, torch.zeros_like(response)), 1)


def above(mean: float) -> Tensor:
    """Return images of this mean, each another one."""
    return mean + 0.02 * (IMAGES - IMAGES.flatten(1).mean(1)[:, None, None, None])


@pytest.mark.parametrize("name", ["bim", "mi_fgsm"])
def test_an_attack_goes_on_from_a_success_by_lucky_draws(name: str) -> None:
    """Its last step leads far enough beyond the boundary, its first lucky one does not."""
    attack = {"name": name, "norm": "linf", "epsilons": [0.08], "steps": 16, "step_size": 0.005, "draws": 9}
    rows = gauntlet.evaluate(Threshold().eval(), above(0.54), torch.zeros(40, dtype=torch.int64), attack)
    assert rows["status"].to_pylist().count("adversarial") >= 39


def test_of_several_points_the_one_that_fools_a_random_model_more_often_is_kept() -> None:
    """A later run does not replace it; for a model that is not random, the last point is kept."""
    good, bad, labels = above(0.45), above(0.51), torch.zeros(40, dtype=torch.int64)
    everything = torch.arange(40)
    model = AttackModel(Threshold().eval(), draws=2)
    model.start_counting(40)
    for first, second in ((good, bad), (bad, good)):
        kept = KeptPoints(model, IMAGES, runs=2)
        kept.keep(everything, first, labels)
        kept.keep(everything, second, labels)
        assert kept.points.equal(good)
    kept = KeptPoints(AttackModel(plain()), IMAGES, runs=2)
    kept.keep(everything, good, labels)
    kept.keep(everything, bad, labels)
    assert kept.points.equal(bad)


@pytest.mark.parametrize("order", [(0.46, 0.5), (0.5, 0.46)])
def test_autoattack_keeps_the_point_that_fools_a_random_model_more_often(
    order: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few draws of the attack would take the other one for many images."""
    attacks = [(str(mean), lambda x, y, keys, mean=mean: x + (mean - 0.54)) for mean in order]
    monkeypatch.setattr("gauntlet.robustness.attacks.autoattack._attacks", lambda *_, **__: iter(attacks))
    model = AttackModel(Threshold().eval(), draws=2)
    model.start_counting(40)
    labels, keys = torch.zeros(40, dtype=torch.int64), torch.arange(40)
    points = autoattack(model, above(0.54), labels, norm="linf", epsilon=0.1, keys=keys, version="rand")
    assert int((points.flatten(1).mean(1) < 0.47).sum()) >= 39


def test_carlini_wagner_is_not_misled_by_lucky_draws(trained: nn.Module) -> None:
    """It finds a success for each image that FAB finds one for, at similar distances."""
    _, _, x, y = digits()
    settings = {"norm": "l2", "draws": 5}
    ours = {"name": "carlini_wagner", "steps": 60, "step_size": 0.05, "binary_search_steps": 4, "initial_const": 0.03}
    rows, nearest = (
        gauntlet.evaluate(trained, x[:24], y[:24], {**attack, **settings}).to_pylist()
        for attack in (ours, {"name": "fab", "steps": 10})
    )
    found = [row["l2"] for row in rows if row["status"] == "adversarial"]
    expected = [row["l2"] for row in nearest if row["status"] == "adversarial"]
    assert len(found) >= len(expected) - 1 > 15
    assert np.median(found) < 1.5 * np.median(expected)
