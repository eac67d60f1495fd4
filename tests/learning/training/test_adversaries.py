"""Adversaries of training: their images, side effects, and the robustness of the trained networks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import gauntlet
from gauntlet.config.variants import Training
from gauntlet.core.errors import GauntletError
from gauntlet.core.geometry import distances
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import PreparedData, prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.losses import Loss, build_loss
from gauntlet.learning.models.build import build
from gauntlet.learning.models.heads import build_head
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.adversaries.pgd import Pgd
from gauntlet.learning.training.adversaries.trades import Trades, divergence
from gauntlet.learning.training.adversary import Adversary, build_adversary, draw_keys, perturbed_images
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.registry import ADVERSARIES, Spec
from tests.support.settings import replace

SMALL = Spec("cnn", {"widths": [8, 8], "head": {"name": "softmax", "hidden": 16}})
PLAIN = Training(epochs=8, batch_size=32, optimizer=Spec("adam", {"lr": 3e-3}))
CROSS_ENTROPY = build_loss(Spec("cross_entropy"))
BOUNDED = [name for name in ADVERSARIES.names() if "norm" in ADVERSARIES.entry(name).options_model.model_fields]


def spec_of(name: str, **options: object) -> Spec:
    """Return an adversary's spec with a budget if it needs one, and defaults otherwise."""
    model = ADVERSARIES.entry(name).options_model
    required = {key: 0.1 for key, info in model.model_fields.items() if info.is_required()}
    return Spec(name, model.model_validate({**required, **options}).model_dump())


@pytest.fixture(scope="module")
def digits() -> PreparedData:
    """Half of the digits."""
    return prepare(Spec("sklearn_digits"), limit={"train": 900, "test": 200})


@pytest.fixture(scope="module")
def few() -> PreparedData:
    """A few of the digits, for tests of the mechanism."""
    return prepare(Spec("sklearn_digits"), limit={"train": 250, "test": 100})


def built(data: PreparedData, spec: Spec = SMALL) -> Network:
    """Return a network for the data."""
    shape = data.splits["train"].image_shape
    return build(spec, image_shape=shape, num_classes=10, mean=data.mean, std=data.std, seed=0)


def trained(data: PreparedData, adversary: Spec | None, *, epochs: int = 8) -> Network:
    """Return a network trained on the data."""
    settings = replace(PLAIN, epochs=epochs, adversary=adversary)
    splits = data.splits["train"], data.splits["validation"]
    return fit(built(data), Spec("cross_entropy"), *splits, settings=settings, seed=0).network


@pytest.fixture(scope="module")
def plain(digits: PreparedData) -> Network:
    """A network trained without an adversary."""
    return trained(digits, None)


def batch(data: PreparedData) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels and keys."""
    split = data.splits["test"]
    return to_unit(split.images), split.labels, draw_keys(len(split), "test", device="cpu")


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", BOUNDED)
def test_images_lie_in_the_ball_and_in_the_box(digits: PreparedData, plain: Network, name: str, norm: str) -> None:
    """At full and half strength, images are within the ball and reach its surface."""
    images, labels, keys = batch(digits)
    adversary = build_adversary(spec_of(name, norm=norm, epsilon=0.2))
    for strength in (1.0, 0.5):
        perturbed = adversary.perturb(plain, CROSS_ENTROPY, images, labels, keys=keys, strength=strength)
        size = distances(perturbed - images)[norm]
        assert not perturbed.requires_grad
        assert perturbed.min() >= 0
        assert perturbed.max() <= 1
        assert size.max() <= 0.2 * strength + 1e-6
        assert size.median() > 0.1 * strength
    assert torch.equal(adversary.perturb(plain, CROSS_ENTROPY, images, labels, keys=keys, strength=0.0), images)


@pytest.mark.parametrize("name", ADVERSARIES.names())
def test_the_loss_rises(digits: PreparedData, plain: Network, name: str) -> None:
    """Every adversary's images have a higher loss than the clean ones."""
    images, labels, keys = batch(digits)
    adversary = build_adversary(spec_of(name))
    perturbed = adversary.perturb(plain, CROSS_ENTROPY, images, labels, keys=keys)
    with torch.no_grad():
        before, after = (float(CROSS_ENTROPY(plain, plain.outputs(x), labels).mean()) for x in (images, perturbed))
    assert after > 1.2 * before


def test_more_steps_raise_the_loss_further(digits: PreparedData, plain: Network) -> None:
    """FGSM has a higher loss than its random start, and PGD a higher one than FGSM."""
    images, labels, keys = batch(digits)
    losses = []
    for spec in (
        Spec("pgd", {"epsilon": 0.2, "steps": 1, "step_size": 1e-9}),
        Spec("fgsm", {"epsilon": 0.2}),
        Spec("pgd", {"epsilon": 0.2, "steps": 20}),
    ):
        perturbed = build_adversary(spec).perturb(plain, CROSS_ENTROPY, images, labels, keys=keys)
        losses.append(float(CROSS_ENTROPY(plain, plain.outputs(perturbed), labels).mean().detach()))
    assert losses == sorted(losses)
    assert losses[0] < losses[-1] / 2


def with_statistics(data: PreparedData) -> Network:
    """Return a network with batch normalization, dropout and a frozen layer."""
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
    body[0].requires_grad_(False)
    head = build_head({"name": "softmax", "hidden": 8}, in_features=256, num_classes=10)
    return Network(normalization=Normalization(data.mean, data.std), body=body, head=head)


class Careless(Adversary):
    """Adversary of a user: it adds to the gradients of the parameters, leaves the other mode, and keeps a graph."""

    def perturb(
        self,
        network: Network,
        loss: Loss,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        keys: torch.Tensor,
        strength: float = 1.0,
    ) -> torch.Tensor:
        """Return images after one gradient step."""
        network.train(not network.training)
        leaf = images.clone().requires_grad_(True)
        loss(network, network.outputs(leaf), labels).sum().backward()
        return (leaf + 0.1 * leaf.grad.sign()).clamp(0, 1)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", ["statistics", "lipschitz"])
@pytest.mark.parametrize("name", [*ADVERSARIES.names(), "careless"])
def test_the_inner_loop_leaves_no_trace_on_the_network(few: PreparedData, name: str, kind: str, mode: str) -> None:
    """Gradients, running statistics, power iterations, mode and frozen parameters stay unchanged."""
    network = with_statistics(few) if kind == "statistics" else built(few, Spec("lipschitz_cnn", {"widths": [4, 4]}))
    network.train(mode == "train")
    network.body[1].eval()  # a part may be in another mode than the whole
    images, labels, keys = batch(few)
    adversary = Careless() if name == "careless" else build_adversary(spec_of(name))
    network.outputs(images)
    before = copy.deepcopy(network.state_dict())
    trainable = [parameter.requires_grad for parameter in network.parameters()]
    modes = [module.training for module in network.modules()]
    with torch.no_grad():  # as in validation
        perturbed = perturbed_images(adversary, network, CROSS_ENTROPY, images, labels, keys=keys)
    assert not perturbed.requires_grad
    assert tensor_digest(network.state_dict()) == tensor_digest(before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [parameter.requires_grad for parameter in network.parameters()] == trainable
    assert [module.training for module in network.modules()] == modes


@pytest.mark.parametrize(("name", "expected"), [("pgd", True), ("fgsm", True), ("trades", False), ("mart", False)])
def test_the_inner_loop_runs_in_the_mode_of_its_source(few: PreparedData, name: str, expected: bool) -> None:
    """Madry's and Wong's inner loops use batch statistics, TRADES's and MART's the running ones."""
    network, seen = with_statistics(few).train(), set()
    network.body.register_forward_hook(lambda module, *_: seen.add(module.training))
    images, labels, keys = batch(few)
    build_adversary(spec_of(name)).perturb(network, CROSS_ENTROPY, images, labels, keys=keys)
    assert seen == {expected}


def test_a_step_that_fails_leaves_the_network_as_it_was(few: PreparedData) -> None:
    """An error inside, such as out of memory, leaves no parameter frozen."""
    network = built(few).train()
    images, labels, keys = batch(few)

    def starve(*_: object) -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        perturbed_images(build_adversary(spec_of("pgd")), network, starve, images, labels, keys=keys)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ADVERSARIES.names())
def test_draws_are_a_function_of_keys(few: PreparedData, name: str) -> None:
    """Images depend on the sample's key, not on the global random state."""
    network = built(few).eval()
    images, labels, keys = batch(few)
    adversary = build_adversary(spec_of(name))

    def made(rows: slice, keys: torch.Tensor) -> torch.Tensor:
        return adversary.perturb(network, CROSS_ENTROPY, images[rows], labels[rows], keys=keys[rows])

    whole = made(slice(None), keys)
    torch.manual_seed(5)
    assert torch.equal(made(slice(None), keys), whole)
    assert not torch.equal(made(slice(None), keys + 1), whole)
    # A sign may flip where a batch of another size rounds a gradient near zero otherwise.
    assert ((made(slice(10, 30), keys) - whole[10:30]).abs() > 1e-5).double().mean() < 0.02


@pytest.mark.parametrize("name", ADVERSARIES.names())
def test_training_repeats_itself_and_differs_from_plain_training(few: PreparedData, name: str) -> None:
    """The same seed gives the same bytes, and accuracy under attack is at most the clean one."""
    # On so few images MART's divergence would make all outputs equal.
    rise = {"warmup_epochs": 2} if name == "mart" else {}
    settings = replace(PLAIN, epochs=2, adversary=spec_of(name, **rise))
    splits = few.splits["train"], few.splits["validation"]

    def run(settings: Training, seed: int = 0) -> tuple[str, list[dict[str, float]]]:
        fitted = fit(built(few), Spec("cross_entropy"), *splits, settings=settings, seed=seed)
        return tensor_digest(fitted.network.state_dict()), fitted.history.drop_columns(list(VOLATILE)).to_pylist()

    first = run(settings)
    assert run(settings) == first
    assert run(settings, seed=1)[0] != first[0]
    without = run(replace(settings, adversary=None))
    assert without[0] != first[0]
    for row in first[1]:
        assert row["robust_validation_loss"] > row["validation_loss"]
        assert 0 <= row["robust_validation_accuracy"] <= row["validation_accuracy"] + 0.05
    assert all(row["robust_validation_loss"] is row["robust_validation_accuracy"] is None for row in without[1])


@pytest.fixture(scope="module")
def unbroken_runs() -> dict[str, tuple[str, object]]:
    """Outcomes of trainings without a stop, by adversary, which the first test that compares with one adds."""
    return {}


@pytest.mark.parametrize("steps", [0, 3, 8, 11])
@pytest.mark.parametrize("name", ADVERSARIES.names())
def test_a_resumed_run_ends_with_the_same_bytes(
    few: PreparedData, unbroken_runs: dict[str, tuple[str, object]], name: str, steps: int
) -> None:
    """This includes batch statistics, dropout and a budget that still grows."""
    settings = replace(PLAIN, epochs=2, adversary=spec_of(name, warmup_epochs=2))
    splits = few.splits["train"], few.splits["validation"]
    torch.manual_seed(0)
    start = with_statistics(few)

    def run(**how: object) -> tuple[str, object]:
        loss = Spec("cross_entropy")
        fitted = fit(copy.deepcopy(start), loss, *splits, settings=settings, seed=0, **how)
        return tensor_digest(fitted.network.state_dict()), fitted.history.drop_columns(list(VOLATILE)).to_pylist()

    stopped = TrainingRun(copy.deepcopy(start), Spec("cross_entropy"), *splits, settings=settings, seed=0)
    for _ in range(steps // stopped.batches.steps):
        stopped.run_epoch()
    stopped.run_steps(steps % stopped.batches.steps)
    if name not in unbroken_runs:
        unbroken_runs[name] = run()
    assert run(resume=stopped.state()) == unbroken_runs[name]


@pytest.mark.parametrize("opposed", [False, True], ids=["plain", "adversarial"])
def test_a_validation_adversary_measures_and_changes_nothing(few: PreparedData, opposed: bool) -> None:
    """Weights, best epoch and clean metrics are unchanged; the metrics under attack are recomputed here."""
    adversary = spec_of("gaussian", sigma=0.1) if opposed else None
    measured = spec_of("fgsm", epsilon=0.1, random_start=False)
    settings = replace(PLAIN, epochs=3, adversary=adversary)
    splits = few.splits["train"], few.splits["validation"]

    def run(settings: Training) -> TrainingResult:
        torch.manual_seed(0)
        return fit(with_statistics(few), Spec("cross_entropy"), *splits, settings=settings, seed=0)

    without, found = run(settings), run(replace(settings, epochs=3, validation_adversary=measured))
    assert tensor_digest(found.network.state_dict()) == tensor_digest(without.network.state_dict())
    robust = ["robust_validation_loss", "robust_validation_accuracy"]
    same = [fitted.history.drop_columns([*VOLATILE, *robust]).to_pylist() for fitted in (found, without)]
    assert same[0] == same[1]
    decisive = "robust_validation_loss" if opposed else "validation_loss"
    assert without.history["selection_loss"] == without.history[decisive]
    images, labels = to_unit(splits[1].images), splits[1].labels
    keys = draw_keys(len(labels), "test", device="cpu")
    perturbed = build_adversary(measured).perturb(found.network, CROSS_ENTROPY, images, labels, keys=keys)
    row = found.history.to_pylist()[found.kept_epoch - 1]
    logits = found.network(perturbed)
    assert row[robust[0]] == pytest.approx(CROSS_ENTROPY(found.network, logits, labels).mean().item(), rel=1e-4)
    assert row[robust[1]] == pytest.approx((logits.argmax(1) == labels).double().mean().item(), abs=0.02)


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_without_a_random_start_the_first_step_is_from_the_image(few: PreparedData, name: str) -> None:
    """FGSM is the image plus epsilon times the sign of the loss's gradient, without a random draw."""
    network, images, labels = built(few).eval(), to_unit(few.splits["test"].images), few.splits["test"].labels
    single = {"steps": 1, "step_size": 0.1} if name == "pgd" else {}
    adversary = build_adversary(spec_of(name, epsilon=0.1, random_start=False, **single))
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(CROSS_ENTROPY(network, network(leaf), labels).sum(), leaf)
    expected = (images + 0.1 * gradient.sign()).clamp(0, 1)
    for address in ("one", "other"):
        keys = draw_keys(len(labels), address, device="cpu")
        found = adversary.perturb(network, CROSS_ENTROPY, images, labels, keys=keys)
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_best_epoch_is_the_best_under_attack(few: PreparedData) -> None:
    """The kept epoch has the lowest loss under attack, recomputed from the returned network."""
    adversary = spec_of("pgd", epsilon=0.15, steps=3)
    settings = replace(PLAIN, epochs=25, batch_size=16, optimizer=Spec("adam", {"lr": 0.01}), adversary=adversary)
    splits = few.splits["train"], few.splits["validation"]
    fitted = fit(built(few), Spec("cross_entropy"), *splits, settings=settings, seed=0)
    robust, clean = (fitted.history[name].to_pylist() for name in ("robust_validation_loss", "validation_loss"))
    assert fitted.kept_epoch == robust.index(min(robust)) + 1
    assert fitted.kept_epoch != clean.index(min(clean)) + 1, "the two would keep the same epoch: choose other settings"
    images, labels = to_unit(splits[1].images), splits[1].labels
    keys = draw_keys(len(labels), "train", 0, "adversary", "validation", device="cpu")
    perturbed = build_adversary(adversary).perturb(fitted.network, CROSS_ENTROPY, images, labels, keys=keys)
    loss = CROSS_ENTROPY(fitted.network, fitted.network(perturbed), labels).mean().item()
    assert loss == pytest.approx(min(robust), rel=1e-4)


def test_the_strength_grows_during_warm_up() -> None:
    """It is linear from 0 to 1, and 1 without warm-up."""
    assert [Pgd(epsilon=0.3, warmup_epochs=2).strength(epochs) for epochs in (0, 0.5, 1, 2, 3)] == [0, 0.25, 0.5, 1, 1]
    assert Pgd(epsilon=0.3).strength(0) == 1


def test_every_step_has_its_own_draws_and_strength(few: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets grow within an epoch and keys never repeat; validation has fixed draws at full strength."""
    settings = replace(PLAIN, epochs=2, batch_size=50, adversary=spec_of("gaussian", warmup_epochs=1))
    splits = few.splits["train"], few.splits["validation"]
    run = TrainingRun(built(few), Spec("cross_entropy"), *splits, settings=settings, seed=0)
    seen: list[tuple[bool, float, tuple[int, ...]]] = []
    real = run.adversary.perturb

    def watched(network: Network, *args: torch.Tensor, keys: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
        seen.append((network.training, strength, tuple(keys.tolist())))
        return real(network, *args, keys=keys, strength=strength)

    monkeypatch.setattr(run.adversary, "perturb", watched)
    run.run_epoch()
    run.run_epoch()
    steps = [(strength, keys) for training, strength, keys in seen if training]
    assert [strength for strength, _ in steps] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    assert len({key for _, keys in steps for key in keys}) == sum(len(keys) for _, keys in steps)
    held_out = [(strength, keys) for training, strength, keys in seen if not training]
    assert len(held_out) == 2
    assert held_out[0] == held_out[1]
    assert held_out[0][0] == 1


def test_divergence_and_objective_of_trades_are_the_published_ones(few: PreparedData) -> None:
    """KL(p || q) of p = (3/4, 1/4), q = (1/2, 1/2) is 3/4 ln 3/2 + 1/4 ln 1/2; the total is CE + beta KL."""
    clean, moved = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[7.0, 7.0]])
    assert divergence(clean, moved).item() == pytest.approx(
        0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    )

    class Table(nn.Module):
        def outputs(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x.flatten(1)[:, :1] < 0.5, clean, moved)

    images, labels = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
    loss, outputs = Trades(epsilon=1.0, beta=3.0).objective(Table(), CROSS_ENTROPY, images, images + 1, labels)
    # -(ln 3/4 + ln 1/4) / 2 + 3 * 0.1308...
    assert loss.item() == pytest.approx(0.8369882 + 3 * 0.1308120, rel=1e-5)
    assert torch.equal(outputs, clean.expand(2, 2))


def test_trades_reaches_the_network_through_both_terms(few: PreparedData) -> None:
    """The gradient of the divergence flows through the clean outputs too."""
    network = built(few).eval()
    images, labels, keys = batch(few)
    trades = Trades(epsilon=0.1, beta=2.0)
    perturbed = trades.perturb(network, CROSS_ENTROPY, images, labels, keys=keys)
    loss, _ = trades.objective(network, CROSS_ENTROPY, images, perturbed, labels)
    clean = network.outputs(images)
    p, q = clean.softmax(1), network.outputs(perturbed).softmax(1)
    by_hand = CROSS_ENTROPY(network, clean, labels).mean() + 2.0 * (p * (p.log() - q.log())).sum(1).mean()
    parameters = list(network.parameters())
    ours = torch.autograd.grad(loss, parameters, retain_graph=True)
    for mine, theirs in zip(ours, torch.autograd.grad(by_hand, parameters), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (Spec("cnn", {"widths": [4], "head": {"name": "ecc"}}), "hinge"),
        (Spec("lipschitz_cnn", {"widths": [4, 4]}), "hkr"),
    ],
)
def test_other_losses_are_trained_against_their_own_ascent(few: PreparedData, model: Spec, loss: str) -> None:
    """PGD raises the hinge loss and HKR, and training lowers them."""
    images, labels, keys = batch(few)
    function, network = build_loss(Spec(loss)), built(few, model)
    perturbed = build_adversary(spec_of("pgd")).perturb(network, function, images, labels, keys=keys)
    with torch.no_grad():
        before, after = (float(function(network, network.outputs(x), labels).mean()) for x in (images, perturbed))
    assert after > before
    settings = replace(PLAIN, epochs=3, adversary=spec_of("pgd", steps=2))
    history = fit(network, Spec(loss), few.splits["train"], few.splits["validation"], settings=settings, seed=0).history
    losses = history["robust_validation_loss"].to_pylist()
    assert losses[-1] < losses[0]


def test_a_robust_loss_that_is_not_finite_is_named(few: PreparedData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the validation under attack."""
    run = TrainingRun(
        built(few),
        Spec("cross_entropy"),
        few.splits["train"],
        few.splits["validation"],
        settings=replace(PLAIN, epochs=1, adversary=spec_of("gaussian")),
        seed=0,
    )
    run.run_steps()
    real = run.adversary.perturb
    monkeypatch.setattr(run.adversary, "perturb", lambda *args, **how: real(*args, **how) * float("nan"))
    with pytest.raises(GauntletError, match="the robust validation loss became nan in epoch 1, after its last step"):
        run.run_epoch()


@pytest.mark.parametrize("name", BOUNDED)
def test_a_network_trained_against_an_adversary_withstands_pgd(digits: PreparedData, plain: Network, name: str) -> None:
    """Robust accuracy under a PGD of more steps is far above the plain network's."""
    few_steps = {"steps": 4} if "steps" in ADVERSARIES.entry(name).options_model.model_fields else {}
    robust = trained(digits, spec_of(name, epsilon=0.2, warmup_epochs=3, **few_steps), epochs=7)
    split = digits.splits["test"]
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.15], "steps": 40}

    def accuracy(network: Network) -> float:
        rows = gauntlet.evaluate(network, to_unit(split.images), split.labels, attack=attack, seed=0)
        return sum(row["epsilon"] is None for row in rows.to_pylist()) / len(rows)

    assert accuracy(robust) > accuracy(plain) + 0.25
