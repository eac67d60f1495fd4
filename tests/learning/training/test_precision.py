"""Training in bfloat16 and TF32: what computes in lower precision, what stays float32, and what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from gauntlet.config.variants import Recovery, Training
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.models.layers.batch_lip_norm import is_batch_lip_norm
from gauntlet.learning.models.lipschitz import LipschitzNetwork
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model, load_model_manifest, save_model
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.precision import StepPrecision
from gauntlet.learning.training.run import TrainingResult, TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace

DATA = prepare(Spec("sklearn_digits"))
FEW = prepare(Spec("sklearn_digits"), limit={"train": 400, "test": 100})
CPU = torch.device("cpu")
CNN = Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
ECC = Spec("cnn", {"widths": [4, 4], "head": {"name": "ecc"}})
LIPSCHITZ = Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8})
USERS = Spec("tests.support.user_networks:Plain", {"dropout": 0.3})
ENTROPY, HKR = Spec("cross_entropy"), Spec("hkr")
QUICK = Training(epochs=2, batch_size=64, precision="bfloat16")


def built(spec: Spec = CNN, *, seed: int = 0) -> Network:
    """Return a network for the digits."""
    return build(spec, image_shape=(1, 8, 8), num_classes=10, mean=DATA.mean, std=DATA.std, seed=seed)


def run_of(spec: Spec = CNN, loss: Spec = ENTROPY, settings: Training = QUICK, *, seed: int = 0) -> TrainingRun:
    """Return a new run on few digits."""
    return TrainingRun(
        built(spec, seed=seed), loss, FEW.splits["train"], FEW.splits["validation"], settings=settings, seed=0
    )


def fitted(spec: Spec, loss: Spec, settings: Training, **more: object) -> TrainingResult:
    """Train on few digits."""
    splits = FEW.splits["train"], FEW.splits["validation"]
    return fit(built(spec), loss, *splits, settings=settings, seed=0, **more)  # type: ignore[arg-type]


@contextmanager
def precisions_of(network: Network) -> Iterator[list[torch.dtype]]:
    """Collect the types that the network's first convolution computes in."""
    types: list[torch.dtype] = []
    layer = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    hook = layer.register_forward_hook(lambda _module, _arguments, output: types.append(output.dtype))
    yield types
    hook.remove()


def test_convolutions_compute_in_bfloat16_and_everything_that_is_kept_in_float32() -> None:
    """Weights, gradients, optimizer state, raw outputs and loss are float32; nothing is left on the network."""
    run = run_of()
    with precisions_of(run.network) as types:
        run.run_steps(2)
    assert types == [torch.bfloat16] * 2
    kept = [*run.network.parameters(), *(p.grad for p in run.network.parameters() if p.grad is not None)]
    kept += [value for state in run.optimizer.state.values() for value in state.values()]
    assert {tensor.dtype for tensor in [*kept, *run.tally.losses]} == {torch.float32}
    assert "outputs" not in vars(run.network)
    assert "forward" not in vars(run.network.head)


@pytest.mark.parametrize("name", ["pgd", "trades"])
def test_adversaries_pass_in_bfloat16_and_validation_in_float32(name: str) -> None:
    """Every pass of a step is in bfloat16, every pass of the validation in float32."""
    run = run_of(settings=replace(QUICK, adversary=Spec(name, {"epsilon": 0.1, "steps": 3})))
    with precisions_of(run.network) as types:
        run.run_steps()
        trained = len(types)
        run.run_epoch()
    assert trained > 3 * run.batches.steps
    assert set(types[:trained]) == {torch.bfloat16}
    assert set(types[trained:]) == {torch.float32}


def test_validation_is_that_of_the_weights_in_float32() -> None:
    """The history's validation loss equals that of the returned network in float32, not in bfloat16."""
    result = fitted(CNN, ENTROPY, QUICK)
    validation = FEW.splits["validation"]
    recorded = result.history["validation_loss"][result.kept_epoch - 1].as_py()
    images = to_unit(validation.images)

    def loss(outputs: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            return float(functional.cross_entropy(outputs(images), validation.labels))

    assert recorded == pytest.approx(loss(result.network.outputs), rel=1e-6)
    with StepPrecision("bfloat16", result.network, CPU).step():
        assert recorded != pytest.approx(loss(result.network.outputs), rel=1e-5)


@pytest.mark.parametrize(
    ("spec", "loss"), [(LIPSCHITZ, HKR), (USERS, ENTROPY), (ECC, Spec("hinge"))], ids=["lipschitz", "user", "ecc"]
)
@pytest.mark.parametrize("steps", [3, 7])
def test_a_resumed_run_ends_with_the_bytes_of_an_unbroken_one(spec: Spec, loss: Spec, steps: int) -> None:
    """In the middle of an epoch, with a network of another seed; and other bytes than in float32."""
    unbroken = fitted(spec, loss, QUICK)
    stopped = run_of(spec, loss)
    full, rest = divmod(steps, stopped.batches.steps)
    for _ in range(full):
        stopped.run_epoch()
    stopped.run_steps(rest)
    state, splits = stopped.state(), (FEW.splits["train"], FEW.splits["validation"])
    resumed = fit(built(spec, seed=5), loss, *splits, settings=QUICK, seed=0, resume=state)
    kept = [tensor_digest(result.network.state_dict()) for result in (unbroken, resumed)]
    assert kept[0] == kept[1]
    rows = [result.history.drop_columns(list(VOLATILE)).to_pylist() for result in (unbroken, resumed)]
    assert rows[0] == rows[1]
    plain = fitted(spec, loss, replace(QUICK, precision="float32"))
    assert tensor_digest(plain.network.state_dict()) != kept[0]


@pytest.mark.parametrize("spec", [Spec("cnn"), Spec("cnn", {"head": {"name": "ecc"}})], ids=["softmax", "ecc"])
def test_accuracy_on_digits_is_that_of_float32(spec: Spec) -> None:
    """After a few epochs both precisions are within three points of each other."""
    loss = Spec("hinge") if "head" in spec.options else ENTROPY
    accuracies = []
    for precision in ("float32", "bfloat16"):
        settings = Training(epochs=6, precision=precision, optimizer=Spec("adam", {"lr": 3e-3}))
        splits = DATA.splits["train"], DATA.splits["validation"]
        result = fit(built(spec), loss, *splits, settings=settings, seed=0)
        accuracies.append(max(result.history["validation_accuracy"].to_pylist()))
    assert accuracies[0] > 0.9
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.03)


@pytest.mark.parametrize("constraint", ["spectral", "frobenius", "projection"])
def test_constraints_are_computed_in_float32(constraint: str) -> None:
    """The weights and power iterations of a pass equal those of float32 to the bit; convolutions are in bfloat16."""
    spec = Spec("lipschitz_cnn", {**LIPSCHITZ.options, "constraint": constraint})
    images, states, weights = torch.rand(4, 1, 8, 8), [], []
    for precision in ("float32", "bfloat16"):
        network, used = built(spec), list[Tensor]()
        layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        for layer in layers:
            layer.register_forward_hook(lambda module, _arguments, _output, used=used: used.append(module.weight))
        with precisions_of(network) as types, StepPrecision(precision, network, CPU).step(), parametrize.cached():
            outputs = network.outputs(images)
        assert types == [torch.bfloat16 if precision == "bfloat16" else torch.float32]
        assert outputs.dtype == torch.float32
        states.append(network.state_dict())
        weights.append(used)
    assert tensor_digest(states[0]) == tensor_digest(states[1])
    assert len(weights[0]) == len(weights[1]) == 4
    for exact, low in zip(*weights, strict=True):
        assert torch.equal(exact, low)


@pytest.mark.parametrize("constraint", ["spectral", "projection"])
def test_the_lipschitz_constant_holds_after_training_in_bfloat16(constraint: str) -> None:
    """Singular values stay at 1 as in float32, and no pair of images is farther apart in logits than claimed."""
    spec = Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8, "constraint": constraint})
    result = fitted(spec, HKR, replace(QUICK, optimizer=Spec("adam", {"lr": 1e-2})))
    exported = result.network.export().eval()
    assert isinstance(exported, LipschitzNetwork)
    claim = exported.lipschitz.constant
    assert 1 <= claim <= 1 + 1e-4
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(64, 1, 8, 8, generator=draws)
    z = (x + 0.05 * torch.randn(x.shape, generator=draws)).clamp(0, 1)
    with torch.no_grad():
        distances = (exported(x) - exported(z)).norm(dim=1)
    assert (distances <= claim * (x - z).flatten(1).norm(dim=1) + 1e-6).all()


def test_statistics_of_a_lipschitz_batch_norm_are_summed_in_float32() -> None:
    """Its epoch mean is that of its inputs to seven digits, which bfloat16 does not have."""
    network = built(Spec("lipschitz_cnn", {**LIPSCHITZ.options, "batch_lip_norm": True}))
    layer = next(filter(is_batch_lip_norm, network.modules()))
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda _module, arguments, _output: seen.append(arguments[0].detach()))
    with StepPrecision("bfloat16", network, CPU).step():
        network.outputs(torch.rand(16, 1, 8, 8))
    assert seen[0].dtype == torch.bfloat16
    torch.testing.assert_close(layer.running_sum_bmean, seen[0].float().mean((0, 2, 3)), rtol=1e-6, atol=1e-7)


def test_a_saturated_code_keeps_its_gradient() -> None:
    """The tanh of the head is float32: at 5 it has a gradient, while bfloat16 rounds it to 1."""
    network = built(ECC)
    with torch.no_grad():
        for module in network.head.modules():
            if isinstance(module, nn.Linear):
                last = module
        last.weight.zero_()
        last.bias.fill_(5.0)
    with StepPrecision("bfloat16", network, CPU).step():
        bits = network.outputs(torch.rand(4, 1, 8, 8))
        (gradient,) = torch.autograd.grad(bits.sum(), last.bias)
    assert (bits < 1).all()
    assert (gradient > 0).all()


def test_a_copied_network_computes_with_its_own_weights() -> None:
    """An adversary may copy the network during a step."""
    network, images = built(), torch.rand(4, 1, 8, 8)
    with StepPrecision("bfloat16", network, CPU).step(), torch.no_grad():
        twin = copy.deepcopy(network)
        for parameter in twin.parameters():
            parameter.zero_()
        assert not twin.outputs(images).any()
        assert network.outputs(images).any()


class WithoutBfloat16(nn.Module):
    """Network that mixes its activations with a float32 tensor in an operation that takes one type."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, num_classes, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits = self.convolution(x).flatten(1)
        return torch.lerp(logits, torch.ones(logits.shape), 0.5)


def test_a_network_that_cannot_compute_in_bfloat16_is_named_with_a_remedy() -> None:
    """One line in place of a traceback."""
    spec = Spec("tests.learning.training.test_precision:WithoutBfloat16")
    with pytest.raises(GauntletError, match="cannot be trained in bfloat16") as raised:
        fitted(spec, ENTROPY, QUICK)
    assert "precision: float32" in str(raised.value.remedy)
    fitted(spec, ENTROPY, replace(QUICK, precision="float32"))


def test_tf32_is_refused_where_no_device_has_it() -> None:
    """A recipe does not mean float32 on another machine."""
    with pytest.raises(InputError, match="the device cpu does not compute in tf32"):
        fitted(CNN, ENTROPY, replace(QUICK, precision="tf32"))


def test_a_collapse_in_bfloat16_is_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that becomes NaN returns to the last good epoch."""
    real = TrainingRun._step

    def spoiled(self: TrainingRun, images: Tensor, labels: Tensor) -> None:
        real(self, images, labels)
        if (self.epochs, self.step) == (1, 2):
            with torch.no_grad():
                next(self.network.parameters()).fill_(torch.nan)

    monkeypatch.setattr(TrainingRun, "_step", spoiled)
    result = fitted(CNN, ENTROPY, replace(QUICK, epochs=3, recovery=Recovery(samples=100)))
    assert result.history["collapsed"].to_pylist() == [False, True, False]
    assert all(parameter.isfinite().all() for parameter in result.network.parameters())


def test_the_manifest_states_the_precision(tmp_path) -> None:
    """A stored network says in which precision it was trained."""
    result = fitted(LIPSCHITZ, HKR, QUICK)
    save_model(result.network, tmp_path)
    assert load_model(tmp_path).training_precision == "bfloat16"
    assert '"precision": "bfloat16"' in (tmp_path / "manifest.json").read_text()
    load_model_manifest(tmp_path)
