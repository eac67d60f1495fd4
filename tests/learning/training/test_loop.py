"""The training loop: accuracy, best epoch, determinism, and resuming at any step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gauntlet.config.variants import Training
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import PreparedData, prepare
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.history import HISTORY_SCHEMA, VOLATILE, EpochRecord
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.optimizers import build_optimizer
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.learning.training.schedules import Schedule
from gauntlet.registry import OPTIMIZERS, Spec
from tests.support.settings import replace

SMALL = {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}}
QUICK = Training(epochs=3, batch_size=64)
VARIANTS = {
    "softmax": (Spec("cnn"), Spec("cross_entropy"), Training()),
    "ecc": (Spec("cnn", {"head": {"name": "ecc"}}), Spec("hinge"), Training()),
    "hydra_ecc": (Spec("cnn", {"head": {"name": "ecc", "heads": 4}}), Spec("hinge"), Training()),
    "lipschitz": (
        Spec("lipschitz_cnn"),
        Spec("hkr"),
        Training(epochs=40, optimizer=Spec("adam", {"lr": 1e-2})),
    ),
}


@pytest.fixture(scope="module")
def digits() -> PreparedData:
    """The digits."""
    return prepare(Spec("sklearn_digits"))


@pytest.fixture(scope="module")
def few() -> PreparedData:
    """A quarter of the digits, for tests of the mechanism."""
    return prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})


def built(data: PreparedData, spec: Spec | None = None, *, seed: int = 0) -> Network:
    """Return a network for the data."""
    shape = data.splits["train"].image_shape
    return build(spec or Spec("cnn", SMALL), image_shape=shape, num_classes=10, mean=data.mean, std=data.std, seed=seed)


def accuracy(network: Network, split: Split) -> float:
    """Return the accuracy on a split."""
    with torch.no_grad():
        return float((network(to_unit(split.images)).argmax(dim=1) == split.labels).double().mean())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("softmax", 0.95), ("ecc", 0.95), ("hydra_ecc", 0.95), ("lipschitz", 0.9)])
def test_default_variants_learn_the_digits(digits: PreparedData, name: str, least: float) -> None:
    """The default experiment's exported networks reach their test accuracy."""
    spec, loss, settings = VARIANTS[name]
    fitted = fit(
        built(digits, spec), loss, digits.splits["train"], digits.splits["validation"], settings=settings, seed=0
    )
    assert accuracy(fitted.network.export().eval(), digits.splits["test"]) >= least


def test_training_lowers_the_loss_and_reports_every_epoch(few: PreparedData) -> None:
    """The history has one row per epoch with the columns of the schema, and KR only for HKR."""
    seen: list[EpochRecord] = []
    splits = few.splits["train"], few.splits["validation"]
    fitted = fit(built(few), Spec("cross_entropy"), *splits, settings=QUICK, seed=0, on_epoch=seen.append)
    rows = fitted.history.to_pylist()
    assert fitted.history.schema.equals(HISTORY_SCHEMA)
    assert [row["epoch"] for row in rows] == [epoch.epoch for epoch in seen] == [1, 2, 3]
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["validation_loss"] < rows[0]["validation_loss"]
    assert all(row["kr"] is None and row["train_kr"] is None for row in rows)
    assert all(row["steps_per_second"] > 0 and row["seconds"] > 0 for row in rows)
    assert not fitted.network.training
    lipschitz = fit(built(few, Spec("lipschitz_cnn")), Spec("hkr"), *splits, settings=QUICK, seed=0)
    assert all(row["kr"] > 0 and row["train_kr"] > 0 for row in lipschitz.history.to_pylist()[1:])


def test_validation_metrics_are_those_of_the_returned_network(few: PreparedData) -> None:
    """The best epoch's row equals metrics recomputed from the returned network."""
    settings = Training(epochs=12, batch_size=32, optimizer=Spec("adam", {"lr": 0.03}))
    fitted = fit(
        built(few), Spec("cross_entropy"), few.splits["train"], few.splits["validation"], settings=settings, seed=1
    )
    losses = fitted.history["validation_loss"].to_pylist()
    assert fitted.kept_epoch == losses.index(min(losses)) + 1
    assert fitted.kept_epoch < len(losses)
    row = fitted.history.to_pylist()[fitted.kept_epoch - 1]
    validation = few.splits["validation"]
    assert accuracy(fitted.network, validation) == pytest.approx(row["validation_accuracy"])
    logits = fitted.network(to_unit(validation.images))
    assert torch.nn.functional.cross_entropy(logits, validation.labels).item() == pytest.approx(
        row["validation_loss"], rel=1e-5
    )


def test_patience_ends_a_run_that_no_longer_improves(few: PreparedData) -> None:
    """The run ends `patience` epochs after its best one, and without patience at its last."""
    settings = Training(epochs=40, batch_size=32, optimizer=Spec("adam", {"lr": 0.03}), patience=3)
    splits = few.splits["train"], few.splits["validation"]
    fitted = fit(built(few), Spec("cross_entropy"), *splits, settings=settings, seed=1)
    assert len(fitted.history) == fitted.kept_epoch + 3 < 40


@pytest.mark.parametrize("name", ["softmax", "hydra_ecc", "lipschitz"])
def test_same_seed_gives_the_same_bytes_and_another_seed_others(few: PreparedData, name: str) -> None:
    """Weights and history are a function of data, settings and seed, not of the global random state."""
    spec, loss, _ = VARIANTS[name]
    settings = replace(QUICK, epochs=2, augmentation=[Spec("shift", {"pixels": 1})])

    def run(seed: int, global_seed: int) -> tuple[str, object]:
        torch.manual_seed(global_seed)
        splits = few.splits["train"], few.splits["validation"]
        fitted = fit(built(few, spec, seed=seed), loss, *splits, settings=settings, seed=seed)
        return tensor_digest(fitted.network.state_dict()), fitted.history.drop_columns(list(VOLATILE)).to_pylist()

    assert run(0, 1) == run(0, 2)
    assert run(0, 1)[0] != run(1, 1)[0]


@pytest.fixture(scope="module")
def unbroken_runs() -> dict[str, TrainingResult]:
    """Trainings without a stop, by name, which the first test that compares with one adds."""
    return {}


@pytest.mark.parametrize("steps", [0, 3, 5, 8])
@pytest.mark.parametrize("name", ["lipschitz", "dropout"])
def test_a_run_resumed_after_any_step_ends_with_the_same_bytes(
    few: PreparedData, unbroken_runs: dict[str, TrainingResult], name: str, steps: int
) -> None:
    """A run stopped in or between epochs is resumed by a new run."""
    spec, loss = {
        "lipschitz": (Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8}), Spec("hkr")),
        "dropout": (Spec("tests.support.user_networks:Plain", {"dropout": 0.3}), Spec("cross_entropy")),
    }[name]
    settings = replace(QUICK, augmentation=[Spec("gaussian_noise")], schedule=Spec("cosine"))
    splits = few.splits["train"], few.splits["validation"]

    def fresh(seed: int) -> TrainingRun:
        return TrainingRun(built(few, spec, seed=seed), loss, *splits, settings=settings, seed=0)

    if name not in unbroken_runs:
        unbroken_runs[name] = fit(built(few, spec), loss, *splits, settings=settings, seed=0)
    unbroken = unbroken_runs[name]
    stopped = fresh(0)
    full, rest = divmod(steps, stopped.batches.steps)
    for _ in range(full):
        stopped.run_epoch()
    stopped.run_steps(rest)
    state = stopped.state()
    stopped.run_epoch()  # what the stopped run does afterwards must not reach the copy
    # A network of another seed: every weight must come from the state.
    resumed = fit(built(few, spec, seed=5), loss, *splits, settings=settings, seed=0, resume=state)
    assert tensor_digest(resumed.network.state_dict()) == tensor_digest(unbroken.network.state_dict())
    kept = [history.history.drop_columns(list(VOLATILE)).to_pylist() for history in (resumed, unbroken)]
    assert kept[0] == kept[1]


def test_training_leaves_the_global_random_state_alone(few: PreparedData) -> None:
    """The global random state is the same after training."""
    network = built(few)
    before = torch.get_rng_state()
    fit(network, Spec("cross_entropy"), few.splits["train"], few.splits["validation"], settings=QUICK, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_not_finite_is_reported_with_epoch_step_and_remedy(few: PreparedData) -> None:
    """An absurd learning rate ends in one line that states it as configured, not in a model of NaNs."""
    settings = Training(epochs=30, batch_size=64, optimizer=Spec("sgd", {"lr": 1e12}), schedule=Spec("one_cycle"))
    line = r"loss became (nan|inf) in epoch \d+, .*step.*\(`training\.optimizer\.lr`, now 1e\+12\)"
    with pytest.raises(GauntletError, match=line):
        fit(built(few), Spec("cross_entropy"), few.splits["train"], few.splits["validation"], settings=settings, seed=0)


def test_the_first_step_with_a_loss_that_is_not_finite_is_named(few: PreparedData) -> None:
    """The message names the first such step."""
    network = built(few)
    calls = 0

    def poison(module: torch.nn.Module, arguments: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return output * float("nan") if calls == 3 else output

    network.body.register_forward_hook(poison)
    with pytest.raises(GauntletError, match="training loss became nan in epoch 1, step 3 of 5"):
        fit(network, Spec("cross_entropy"), few.splits["train"], few.splits["validation"], settings=QUICK, seed=0)


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_optimizers_take_a_step_downhill(name: str) -> None:
    """Every registered optimizer lowers a convex function at its learning rate."""
    point = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = build_optimizer(Spec(name, {"lr": 0.05}), [point])
    assert optimizer.param_groups[0]["lr"] == 0.05
    for _ in range(20):
        optimizer.zero_grad()
        point.pow(2).sum().backward()
        optimizer.step()
    assert point.pow(2).sum() < 10


def test_nesterov_without_momentum_is_refused() -> None:
    """The error names the option to set."""
    with pytest.raises(InputError, match="momentum"):
        build_optimizer(Spec("sgd", {"nesterov": True, "momentum": 0.0}), [torch.nn.Parameter(torch.zeros(1))])


@pytest.mark.parametrize(
    ("spec", "warmup_epochs", "rates"),
    [
        (Spec("constant"), 0, [1, 1, 1, 1]),
        (Spec("constant"), 2, [1 / 3, 2 / 3, 1, 1]),
        (Spec("cosine"), 0, [(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4)]),
        (Spec("step", {"milestones": [1, 3], "factor": 0.1}), 0, [1, 0.1, 0.1, 0.01]),
        (Spec("step", {"milestones": [1, 3], "factor": 0.1}), 1, [0.5, 0.1, 0.1, 0.01]),
    ],
)
def test_schedules_have_their_values(spec: Spec, warmup_epochs: int, rates: list[float]) -> None:
    """The learning rate factors of each epoch, with and without warm-up, equal those listed."""
    schedule = Schedule(spec, warmup_epochs=warmup_epochs)
    assert [schedule.factor(epoch, 4, step=step, steps=2) for epoch in range(4) for step in range(2)] == pytest.approx(
        [rate for rate in rates for _ in range(2)]
    )


def test_the_history_shows_the_learning_rate_of_the_schedule(few: PreparedData) -> None:
    """The history's learning rates are those of the schedule."""
    settings = replace(QUICK, schedule=Spec("cosine"))
    fitted = fit(
        built(few), Spec("cross_entropy"), few.splits["train"], few.splits["validation"], settings=settings, seed=0
    )
    assert fitted.history["learning_rate"].to_pylist() == pytest.approx([1e-3, 0.75e-3, 0.25e-3])


def test_augmentation_reaches_the_training_images_only(few: PreparedData) -> None:
    """Augmentation changes the network, and validation images stay clean."""
    splits = few.splits["train"], few.splits["validation"]
    plain = fit(built(few), Spec("cross_entropy"), *splits, settings=QUICK, seed=0)
    noisy = replace(QUICK, augmentation=[Spec("gaussian_noise", {"std": 0.3})])
    augmented = fit(built(few), Spec("cross_entropy"), *splits, settings=noisy, seed=0)
    assert tensor_digest(plain.network.state_dict()) != tensor_digest(augmented.network.state_dict())
    row = augmented.history.to_pylist()[augmented.kept_epoch - 1]
    assert accuracy(augmented.network, few.splits["validation"]) == pytest.approx(row["validation_accuracy"])


@pytest.mark.parametrize(("name", "expected"), [("sgd", 2 - 0.1 * 0.5 * 2), ("adam", 2 - 0.1)])
def test_weight_decay_is_the_gradient_of_half_its_factor_times_the_square(name: str, expected: float) -> None:
    """SGD subtracts lr 0.5 2 from a weight of 2 without another gradient; Adam, which scales to 1, lr."""
    for decay, wanted in ((0.5, expected), (0.0, 2.0)):
        weight = nn.Parameter(torch.tensor([2.0]))
        optimizer = build_optimizer(Spec(name, {"lr": 0.1, "weight_decay": decay}), [weight])
        weight.grad = torch.zeros(1)
        optimizer.step()
        assert weight.item() == pytest.approx(wanted, rel=1e-6)
