"""Schedules per step, optimizers of PyTorch, averaged and perturbed weights, MART, and the epoch of best accuracy."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from gauntlet.config.compatibility import variant_problems
from gauntlet.config.variants import Training, Variant
from gauntlet.core.errors import InputError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.losses import build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.mart import Mart
from gauntlet.learning.training.adversary import draw_keys, perturbed_images
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.optimizers import build_optimizer
from gauntlet.learning.training.run import TrainingRun
from gauntlet.learning.training.schedules import Schedule
from gauntlet.learning.training.weight_average import WeightAverage
from gauntlet.registry import LOSSES, MIXINGS, OPTIMIZERS, Spec
from gauntlet.registry.source_code import exported

DATA = prepare(Spec("sklearn_digits"), limit={"train": 250, "test": 100})
SPLITS = DATA.splits["train"], DATA.splits["validation"]
LOSS = Spec("cross_entropy")
SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 64}
NORMED = Spec("vgg", {"depth": 3, "capacity": 0.05, "batch_norm": True})
OPTIMIZERS_OF_TORCH = [
    name
    for name in exported("torch.optim")
    if isinstance(getattr(torch.optim, name), type) and name not in ("Optimizer", "LBFGS", "SparseAdam", "Muon")
]
RECIPES: dict[str, dict[str, Any]] = {
    "one_cycle": {"schedule": "one_cycle"},
    "warmup_cosine": {"schedule": {"name": "warmup_cosine", "warmup_epochs": 0.5}, "warmup_epochs": 1},
    "piecewise": {"schedule": "piecewise", "gradient_clipping": {}},
    "ema": {"ema": {"decay": 0.9}},
    "ema in bfloat16": {"ema": {"decay": 0.9}, "precision": "bfloat16", "awp": {}},
    "ema and recovery": {"ema": {}, "recovery": {}},
    "mixup": {"mixing": "mixup", "adversary": {"name": "pgd", "epsilon": 0.1, "steps": 2}},
    "cutmix": {"mixing": "cutmix", "awp": {"start_epoch": 2}},
    "trades with awp": {"adversary": {"name": "trades", "epsilon": 0.1, "steps": 2}, "awp": {"gamma": 0.01}},
}


def built(spec: Spec = NORMED, *, seed: int = 0) -> Network:
    """Build a network for the digits."""
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=seed)


def outcome(settings: Training, *, seed: int = 0, **how: Any) -> tuple[str, list[dict[str, Any]]]:
    """Train; return the digest of the weights, and the history."""
    fitted = fit(built(seed=seed), LOSS, *SPLITS, settings=settings, seed=0, **how)
    return tensor_digest(fitted.network.state_dict()), fitted.history.drop_columns(list(VOLATILE)).to_pylist()


def new_run(settings: Training) -> TrainingRun:
    """Return a run that has not begun."""
    return TrainingRun(built(), LOSS, *SPLITS, settings=settings, seed=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_resumed_recipe_ends_with_the_same_bytes(recipe: str) -> None:
    """A run stopped within an epoch and resumed from another network equals an unbroken one, and not a plain one."""
    settings = Training.model_validate({**SMALL, **RECIPES[recipe]})
    unbroken = outcome(settings)
    for epochs, steps in ((0, 2), (1, 1)):
        stopped = new_run(settings)
        for _ in range(epochs):
            stopped.run_epoch()
        stopped.run_steps(steps)
        assert outcome(settings, seed=5, resume=stopped.state()) == unbroken
    assert outcome(Training.model_validate(SMALL))[0] != unbroken[0]


@pytest.mark.parametrize("name", OPTIMIZERS_OF_TORCH)
def test_optimizers_of_torch_take_their_options_and_resume(name: str) -> None:
    """Each class builds with the options that a configuration fills in, and resumes to the same bytes."""
    settings = Training.model_validate({**SMALL, "optimizer": {"name": f"torch.optim:{name}", "lr": 0.01}})
    assert isinstance(build_optimizer(settings.optimizer, [nn.Parameter(torch.zeros(2))]), getattr(torch.optim, name))
    stopped = new_run(settings)
    stopped.run_steps(2)
    assert outcome(settings, seed=5, resume=stopped.state()) == outcome(settings)


@pytest.mark.parametrize("name", ["LBFGS", "SparseAdam", "Muon", "Optimizer", "lr_scheduler", "AdamX"])
def test_what_is_no_usable_optimizer_is_refused_by_name(name: str) -> None:
    """The message names the classes that there are."""
    with pytest.raises(InputError, match=f"has no optimizer '{name}'"):
        OPTIMIZERS.entry(f"torch.optim:{name}")


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"lr": 0}, "a number above 0"), ({"lr": 0.1, "foreach": True}, "unknown key"), ({"lr": "big"}, "number")],
)
def test_options_of_torchs_optimizers_are_checked(options: dict[str, Any], problem: str) -> None:
    """Values are checked against the signature; choices of implementation are not options."""
    with pytest.raises(ValidationError, match=problem):
        Training.model_validate({"optimizer": {"name": "torch.optim:AdamW", **options}})


def test_options_that_an_optimizer_refuses_are_one_line() -> None:
    """Torch's own checks are reported with the key."""
    with pytest.raises(InputError, match="refuses its options: Invalid beta"):
        build_optimizer(Spec("torch.optim:Adam", {"betas": [2.0, 0.9]}), [nn.Parameter(torch.zeros(1))])


def test_adamw_decays_weights_apart_from_the_gradient() -> None:
    """Without a gradient a weight loses lr x weight_decay of itself."""
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = build_optimizer(Spec("adamw", {"lr": 0.1, "weight_decay": 0.5}), [weight])
    weight.grad = torch.zeros(1)
    optimizer.step()
    assert weight.item() == pytest.approx(2 - 0.1 * 0.5 * 2)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Spec("piecewise"), [1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01]),
        (
            Spec("one_cycle", {"peak": 0.5, "start": 0.2, "end": 0.0, "shape": "linear"}),
            [0.4, 0.6, 0.8, 1.0, 0.75, 0.5, 0.25, 0.0],
        ),
        (
            Spec("warmup_cosine", {"warmup_epochs": 2.0, "end": 0.0}),
            [0.25, 0.5, 0.75, *[(1 + math.cos(math.pi * k / 4)) / 2 for k in range(5)]],
        ),
    ],
)
def test_schedules_per_step_have_their_values(spec: Spec, expected: list[float]) -> None:
    """Four epochs of two steps; the time of a step is that at its end."""
    schedule = Schedule(spec)
    factors = [schedule.factor(epoch, 4, step=step, steps=2) for epoch in range(4) for step in range(2)]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize(
    "model",
    [Spec("resnet", {"preactivation": True, "capacity": 0.05}), Spec("wide_resnet", {"depth": 10, "width": 1})],
    ids=["resnet", "wide_resnet"],
)
def test_training_takes_the_steps_of_a_plain_loop(model: Spec) -> None:
    """In float64 two epochs of clipped SGD with OneCycleLR in PyTorch, on the same batches, end with these weights."""
    sgd = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
    settings = Training.model_validate(
        {
            **SMALL,
            "optimizer": {"name": "sgd", **sgd},
            "schedule": "one_cycle",
            "gradient_clipping": {"norm": "l2", "limit": 1.0},
            "augmentation": ["flip"],
            "keep": "last",
        }
    )
    run, plain = TrainingRun(built(model).double(), LOSS, *SPLITS, settings=settings, seed=0), built(model).double()
    optimizer = torch.optim.SGD(plain.train().parameters(), **sgd)
    steps = 2 * run.batches.steps
    rates = _rates_of_pytorch(steps + 1, (0.3 * steps + 1) / (steps + 1))[1:]
    batches = [batch for epoch in range(2) for batch in run.batches.epoch(epoch)]
    clipped = 0
    for rate, (images, labels) in zip(rates, batches, strict=True):
        optimizer.param_groups[0]["lr"] = 0.05 * rate
        optimizer.zero_grad()
        functional.cross_entropy(plain(images.double()), labels).backward()
        clipped += int(nn.utils.clip_grad_norm_(plain.parameters(), 1.0) > 1)
        optimizer.step()
    assert clipped
    while not run.finished:
        run.run_epoch()
    torch.testing.assert_close(run.result().network.state_dict(), plain.state_dict(), rtol=1e-8, atol=1e-10)


def test_one_cycle_is_pytorchs_scheduler_after_its_first_step() -> None:
    """Rates are those of OneCycleLR with one step more in front, which has the rate `start`; the fall is the same."""
    steps, peak = 100, 0.3
    expected = _rates_of_pytorch(steps + 1, (peak * steps + 1) / (steps + 1))[1:]
    schedule = Schedule(Spec("one_cycle"))
    factors = [schedule.factor(step // 20, 5, step=step % 20, steps=20) for step in range(steps)]
    assert factors == pytest.approx(expected, abs=1e-12)
    fall = round(peak * steps) - 1
    assert factors[fall:] == pytest.approx(_rates_of_pytorch(steps, peak)[fall:], abs=1e-12)


def _rates_of_pytorch(steps: int, peak: float) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=peak, cycle_momentum=False
    )
    rates = []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return rates


def test_warmup_of_a_schedule_per_step_is_per_step() -> None:
    """The rate rises in every step of the first epochs."""
    schedule = Schedule(Spec("piecewise"), warmup_epochs=1)
    assert [schedule.factor(0, 9, step=step, steps=4) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])


def test_the_average_is_that_of_the_weights_after_each_step() -> None:
    """Parameters and running statistics are recomputed here; counters are the network's own; training is unchanged."""
    settings = Training.model_validate({**SMALL, "epochs": 1, "ema": {"decay": 0.6}})
    run = new_run(settings)
    average = {name: tensor.clone() for name, tensor in run.network.state_dict().items()}
    for step in range(1, run.batches.steps + 1):
        run.run_steps(1)
        decay = min(0.6, (1 + step) / (10 + step))
        for name, tensor in run.network.state_dict().items():
            average[name] = (
                decay * average[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor.clone()
            )
    plain = new_run(Training.model_validate({**SMALL, "epochs": 1}))
    plain.run_steps()
    assert tensor_digest(run.network.state_dict()) == tensor_digest(plain.network.state_dict())
    record = run.run_epoch()
    assert tensor_digest(run.network.state_dict()) == tensor_digest(plain.network.state_dict())
    network = run.result().network
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-4, atol=1e-6)
    loss = functional.cross_entropy(network(to_unit(SPLITS[1].images)), SPLITS[1].labels).item()
    assert record.validation_loss == pytest.approx(loss, rel=1e-5)
    counts = [int(layer.num_batches_tracked) for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]  # type: ignore[arg-type]
    assert counts == [plain.batches.steps] * 3


def test_an_average_without_effect_is_refused() -> None:
    """Spectral layers of deel-torchlip compute in evaluation with the weight of their last training pass."""
    from deel.torchlip import SpectralConv2d, SpectralLinear

    for layer in (SpectralLinear(4, 3), SpectralConv2d(2, 4, 3)):
        with pytest.raises(InputError, match=r"no effect on 1: .* stored weight; leave ema out"):
            WeightAverage(0.9, nn.Sequential(nn.Flatten(), layer))


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "orthogonal"])
def test_weights_that_are_computed_from_averaged_parameters_are_averaged(kind: str) -> None:
    """The check of the layers changes neither their parameters and buffers nor their mode."""
    layer = getattr(nn.utils.parametrizations, kind)(nn.Linear(4, 3))
    layer.parametrizations.eval()
    digest, training = tensor_digest(layer.state_dict()), [module.training for module in layer.modules()]
    average = WeightAverage(0.9, layer)
    assert tensor_digest(layer.state_dict()) == tensor_digest(average.state.weights) == digest
    assert [module.training for module in layer.modules()] == training


@pytest.mark.parametrize("adversary", [None, "pgd", "trades"])
def test_perturbed_weights_have_a_higher_loss_and_are_moved_back(adversary: str | None) -> None:
    """Gradients are those at weights moved by gamma of their norm, recomputed here; the weights end as before."""
    attack = adversary and {"name": adversary, "epsilon": 0.1, "steps": 2}
    settings = Training.model_validate({"awp": {"gamma": 0.1}, "adversary": attack})
    run, by_hand = TrainingRun(built().double(), LOSS, *SPLITS, settings=settings, seed=0), built().double().train()
    images, labels = to_unit(SPLITS[0].images[:50]).double(), SPLITS[0].labels[:50]
    moved = images
    if run.adversary is not None:
        keys = draw_keys(50, "train", 0, "adversary", 0, 0, device="cpu")
        moved = perturbed_images(run.adversary, run.network, run.loss, images, labels, keys=keys)
        assert (moved - images).abs().max() > 0.05

    def objective() -> torch.Tensor:
        if adversary != "trades":
            return functional.cross_entropy(by_hand(moved), labels)
        clean, logits = by_hand(images), by_hand(moved)
        divergence = functional.kl_div(logits.log_softmax(1), clean.softmax(1), reduction="batchmean")
        return functional.cross_entropy(clean, labels) + 6 * divergence

    before = copy.deepcopy(dict(run.network.named_parameters()))
    step_loss = run.objective.backward(images, labels, epoch=0, step=0)
    statistics = copy.deepcopy(by_hand.state_dict())
    unmoved = objective()
    unmoved.backward()
    by_hand.load_state_dict(statistics)
    for parameter in by_hand.parameters():
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        if parameter.ndim > 1:
            with torch.no_grad():
                parameter += 0.1 * parameter.norm() * gradient / gradient.norm()
    perturbed = objective()
    perturbed.backward()
    torch.testing.assert_close(step_loss.loss, perturbed.detach())
    assert step_loss.loss > 1.1 * unmoved
    for (name, own), other in zip(run.network.named_parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(own, before[name])
        torch.testing.assert_close(own.grad, other.grad)
    for own, other in zip(run.network.buffers(), by_hand.buffers(), strict=True):
        torch.testing.assert_close(own, other)


def test_the_objective_of_mart_is_the_published_one() -> None:
    """Boosted cross-entropy plus beta KL times one minus the clean probability, for two images by hand."""
    clean, moved = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.3, 0.6, 0.1]).log()

    class Table(nn.Module):
        def outputs(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x.flatten(1)[:, :1] < 0.5, clean, moved)

    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 2])
    network: Any = Table()
    loss, outputs = Mart(epsilon=1.0, beta=2.0).objective(network, build_loss(LOSS), images, images + 1, labels)
    kl = 0.7 * math.log(0.7 / 0.3) + 0.2 * math.log(0.2 / 0.6)
    values = [
        -math.log(0.3) - math.log(1.0001 - 0.6) + 2 * kl * (1 - 0.7),
        -math.log(0.1) - math.log(1.0001 - 0.6) + 2 * kl * (1 - 0.1),
    ]
    assert loss.item() == pytest.approx(sum(values) / 2, rel=1e-5)
    assert torch.equal(outputs, moved.expand(2, 3))


def test_best_accuracy_keeps_the_epoch_of_the_highest_validation_accuracy() -> None:
    """The history is that of `keep: best`; the first of equal epochs is kept."""
    settings = Training.model_validate(
        {"epochs": 12, "batch_size": 32, "optimizer": {"name": "adam", "lr": 0.05}, "keep": "best_accuracy"}
    )
    cnn = Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
    fitted = fit(built(cnn), LOSS, *SPLITS, settings=settings, seed=3)
    accuracies, losses = (fitted.history[f"validation_{name}"].to_pylist() for name in ("accuracy", "loss"))
    assert fitted.kept_epoch == accuracies.index(max(accuracies)) + 1
    assert fitted.kept_epoch != losses.index(min(losses)) + 1, "both rules keep the same epoch: choose another seed"


@pytest.mark.parametrize("mixing", MIXINGS.names())
@pytest.mark.parametrize("loss", LOSSES.names())
def test_mixing_is_refused_by_name_with_a_loss_that_has_no_mixed_target(loss: str, mixing: str) -> None:
    """Losses of batch statistics and with a state are refused before training."""
    training = Training.model_validate({"mixing": mixing})
    output = LOSSES.entry(loss).tags["outputs"][0]
    head = {"logits": "softmax", "sigmoid": "sigmoid", "codes": "ecc"}[output]
    variant = Variant.model_validate({"model": {"name": "cnn", "head": head}, "loss": loss})
    problems = [text for path, text in variant_problems(variant, training) if path == ("training", "mixing")]
    assert bool(problems) == (not LOSSES.entry(loss).tags.get("soft"))
    assert all(loss in text and mixing in text for text in problems)


@pytest.mark.parametrize(
    ("model", "training", "path"),
    [
        ("cnn", {"mixing": "mixup", "adversary": {"name": "mart", "epsilon": 0.1}}, ("training", "mixing")),
        ("lipschitz_cnn", {"ema": {}}, ("training", "ema")),
        ("cnn", {"epochs": 3, "awp": {"start_epoch": 4}}, ("training", "awp", "start_epoch")),
    ],
)
def test_combinations_that_cannot_work_are_refused(model: str, training: dict[str, Any], path: tuple[str, ...]) -> None:
    """Each has its message at its key."""
    problems = variant_problems(Variant(model=model), Training.model_validate(training))
    assert [found for found, _ in problems] == [path]


def test_keys_that_are_not_used_leave_recipes_as_they_were() -> None:
    """Trainings without them have no such key in what decides their bytes."""
    assert not {"ema", "mixing", "awp"} & set(Training().as_dict())
    assert Training.model_validate({"ema": {}}).as_dict()["ema"] == {"decay": 0.999}
