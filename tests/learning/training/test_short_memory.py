"""Training when memory runs out: batches in parts with the gradient of the whole batch."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.build import build
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.memory_record import MemoryRecord
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec
from tests.support.settings import replace
from tests.support.shared_training import CNN, ENTROPY, LIPSCHITZ, SETTINGS, SHAPE, Noise, run_to_end, split

TRADES = replace(SETTINGS, adversary=Spec("trades", {"epsilon": 0.1, "steps": 2}))
LIMIT = 5


class Limited(nn.Module):
    """Layer that has memory for `LIMIT` images, and remembers the sizes and the activations of its passes."""

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self.limit = limit
        self.sizes: list[int] = []
        self.activations: list[weakref.ref[Tensor]] = []
        self.alive: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the input of a pass that fits."""
        self.sizes.append(len(x))
        kept = x.clone()
        self.activations.append(weakref.ref(kept))
        self.alive.append(sum(reference() is not None for reference in self.activations))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kept * kept.detach().clamp(1, 1)


class Seen(nn.Module):
    """User-defined layer that counts its images in place, and adds up its inputs in a new tensor for each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(SHAPE))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        if self.training:
            self.count += len(x)
            self.total = self.total + x.detach().sum(0)
        return x


class Normed(nn.Module):
    """User's network with the spectral normalization of torch."""

    def __init__(self) -> None:
        super().__init__()
        hidden = parametrizations.spectral_norm(nn.Linear(64, 32))
        self.layers = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.layers(x)
        return logits


NORMED = Spec(f"{__name__}:Normed")


def new_run(model: Spec, loss: Spec = ENTROPY, settings=SETTINGS, layers: tuple[nn.Module, ...] = ()) -> TrainingRun:
    """Return a run in float64 of a network that begins with some layers."""
    network = build(model, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5])
    for layer in reversed(layers):
        network.body.insert(0, layer)
    return TrainingRun(network.double(), loss, split(50, 0), split(25, 1), settings=settings, seed=0)


@pytest.mark.parametrize(
    ("model", "loss", "settings"),
    [
        (CNN, ENTROPY, SETTINGS),
        (CNN, ENTROPY, TRADES),
        (CNN, ENTROPY, replace(TRADES, awp={"gamma": 0.05}, ema={"decay": 0.9}, mixing=Spec("cutmix", {"alpha": 1.0}))),
        (LIPSCHITZ, Spec("hkr"), replace(SETTINGS, optimizer=Spec("adam", {"lr": 1e-2}))),
        (CNN, ENTROPY, replace(SETTINGS, regularizers=[Spec("l2", {"strength": 0.1})])),
    ],
    ids=[
        "cross-entropy",
        "trades",
        "perturbed and averaged weights, mixed images",
        "constrained layers and batch statistics",
        "penalties",
    ],
)
def test_a_training_in_parts_equals_that_of_whole_batches(model, loss, settings):
    """Weights, buffers and history agree to rounding, power iterations and draws of layers included."""
    whole = run_to_end(new_run(model, loss, settings, (Seen(), Limited(1000), Noise(), nn.Dropout(0.2))))
    limited = Limited()
    run = new_run(model, loss, settings, (Seen(), limited, Noise(), nn.Dropout(0.2)))
    parted = run_to_end(run)
    assert run.passes.part_size == 4
    assert {size for size in limited.sizes if size > LIMIT} <= {8, 10, 16, 25}
    for name, tensor in whole["weights"].items():
        torch.testing.assert_close(parted["weights"][name], tensor, rtol=1e-7, atol=1e-9)
    for before, after in zip(whole["history"], parted["history"], strict=True):
        assert {name for name, value in after.items() if value is None} == {
            name for name, value in before.items() if value is None
        }
        measured = {name: value for name, value in before.items() if value is not None}
        assert {name: after[name] for name in measured} == pytest.approx(measured, rel=1e-7)


@pytest.mark.parametrize("model", [LIPSCHITZ, Spec("lipschitz_cnn"), NORMED], ids=["dense", "cnn", "spectral norm"])
@pytest.mark.parametrize("before", [0, 2])
def test_networks_with_computed_weights_continue_in_parts(model, before):
    """Memory runs out after some steps: weights and power iterations are those of whole batches."""
    states = []
    for shrinks in (False, True):
        torch.manual_seed(0)
        run = new_run(model)
        run.run_steps(before)
        if shrinks:
            run.passes.shrink(3)
        run.run_steps(1)
        states.append(run.state().weights)
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-7, atol=1e-9)


def test_a_part_is_computed_again_for_each_backward_pass():
    """A gradient of a gradient passes through it twice."""
    images = torch.rand(8, *SHAPE, dtype=torch.float64)
    found = []
    for size in (8, 3):
        torch.manual_seed(0)
        run = new_run(LIPSCHITZ, layers=(Seen(),))
        run.passes.shrink(size)
        batch = images.clone().requires_grad_()
        loss = run.network.outputs(batch).square().sum()
        (gradient,) = torch.autograd.grad(loss, batch, create_graph=True)
        gradient.square().sum().backward()
        found.append({**dict(run.network.named_buffers()), "gradient": batch.grad})
        assert int(run.network.body[0].count) == len(images)
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor)


def test_tensors_of_a_failed_pass_are_freed_before_the_next():
    """Neither the traceback nor the graph keeps them: at most the activations of one part are stored."""
    gc.disable()
    try:
        limited = Limited()
        run = new_run(CNN, layers=(limited,))
        run.run_steps(2)
        assert max(limited.alive) == 1
    finally:
        gc.enable()


def test_batch_normalization_is_not_computed_in_parts():
    """The error names the layer and `batch_size`; validation, where it is no obstacle, is computed in parts."""
    with pytest.raises(
        GauntletError, match=r"batch_size of 16, .*BatchNorm2d \(body\.1\) depend.*training\.batch_size"
    ):
        new_run(CNN, layers=(Limited(), nn.BatchNorm2d(1))).run_epoch()
    run = new_run(CNN, layers=(Limited(16), nn.BatchNorm2d(1)))
    run.run_epoch()
    assert run.passes.part_size == 8


def test_a_single_image_that_does_not_fit_ends_the_training():
    """One line that names `batch_size`; nothing is left attached to the network."""
    network = build(CNN, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5])
    network.body.insert(0, Limited(0))
    with pytest.raises(GauntletError, match="batch_size of 16; lower"):
        fit(network, ENTROPY, split(50, 0), split(25, 1), settings=SETTINGS, seed=0)
    assert "outputs" not in vars(network)


def test_a_recorded_size_is_used_from_the_start(tmp_path: Path):
    """A training that is started again does not run out of memory first."""
    record = MemoryRecord(tmp_path / "memory.json")
    assert record.read() is None
    record.write(3, in_training=True)
    network, limited = build(CNN, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5]), Limited()
    network.body.insert(0, limited)
    result = fit(network, ENTROPY, split(50, 0), split(25, 1), settings=SETTINGS, seed=0, memory=record)
    assert result.part_size == 3
    assert max(limited.sizes[limited.sizes.index(3) :]) == 3
