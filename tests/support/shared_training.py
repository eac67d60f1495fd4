"""Small distributed trainings, and the program of each process: its argument is a folder."""

from __future__ import annotations

import math
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gauntlet.config.variants import Recovery, Training
from gauntlet.core.errors import GauntletError
from gauntlet.core.signals import StopRequest
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.learning.training.data_parallel import DataParallelGroup
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.pauses import Pauses
from gauntlet.learning.training.run import TrainingRun
from gauntlet.learning.training.split_passes import SplitPasses
from gauntlet.registry import Spec
from tests.support.settings import replace

PROCESSES = 3
SHAPE = (1, 8, 8)


class Noise(nn.Module):
    """User-defined layer that draws in training."""

    def forward(self, x: Tensor) -> Tensor:
        """Add noise."""
        return x + 0.1 * torch.randn_like(x) if self.training else x


class Centered(nn.Module):
    """User-defined layer that mixes samples."""

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the mean of the batch."""
        return x - x.mean(0, keepdim=True)


class DrawingBlock(nn.Module):
    """User-defined module that draws itself and has a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Drop values."""
        return nn.functional.dropout(self.inner(x), 0.5, self.training)


class BatchStatistics(nn.Module):
    """User-defined network with every kind of batch normalization, and layers that draw."""

    def __init__(self, drop: float = 0.3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout2d(drop),
            nn.Conv2d(4, 4, 3, stride=2),
            nn.BatchNorm2d(4, affine=False, momentum=None),
            nn.ReLU(),
            nn.Unflatten(1, (1, 4)),
            nn.BatchNorm3d(1, track_running_stats=False),
            nn.Flatten(),
            Noise(),
            nn.Linear(36, 8),
            nn.BatchNorm1d(8, eps=1e-3, momentum=0.3),
            nn.AlphaDropout(drop),
            nn.Linear(8, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        logits: Tensor = self.layers(x)
        return logits


def weight_penalized_loss(network: Network, outputs: Tensor, labels: Tensor) -> Tensor:
    """Return a loss that also reads the weights, equally in every process."""
    own = nn.functional.cross_entropy(outputs, labels, reduction="none")
    return own + sum(parameter.square().sum() for parameter in network.parameters())


# Four steps an epoch, the last of two images: one of three processes has no share of it.
SETTINGS = Training(epochs=2, batch_size=16, optimizer=Spec("sgd", {"lr": 0.05, "momentum": 0.9}))
CNN = Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
SIGMOID = Spec("cnn", {"widths": [4, 4], "head": {"name": "sigmoid"}})
ECC = Spec("cnn", {"widths": [4, 4], "head": {"name": "ecc"}})
LIPSCHITZ = Spec("lipschitz_cnn", {"widths": [4, 4], "hidden": 8})
STATISTICS = Spec("tests.support.shared_training:BatchStatistics")
ENTROPY = Spec("cross_entropy")
RUNS: dict[str, tuple[Spec, Spec, Training]] = {
    "cross-entropy": (CNN, ENTROPY, SETTINGS),
    "adam": (CNN, ENTROPY, replace(SETTINGS, optimizer=Spec("adam", {"lr": 1e-2}))),
    "hinge of codes": (ECC, Spec("hinge"), SETTINGS),
    "a batch statistic": (LIPSCHITZ, Spec("hkr"), replace(SETTINGS, optimizer=Spec("adam", {"lr": 1e-2}))),
    "a batch statistic under attack": (
        CNN,
        Spec("hkr"),
        replace(SETTINGS, adversary=Spec("pgd", {"epsilon": 0.5, "norm": "l2", "steps": 3})),
    ),
    "penalties and augmentation": (
        CNN,
        ENTROPY,
        replace(
            SETTINGS,
            regularizers=[Spec("l2", {"strength": 0.1})],
            augmentation=[Spec("shift", {"pixels": 1}), Spec("gaussian_noise", {"std": 0.1})],
        ),
    ),
    "a loss that reads weights": (CNN, Spec("tests.support.shared_training:weight_penalized_loss"), SETTINGS),
    "pgd": (CNN, ENTROPY, replace(SETTINGS, adversary=Spec("pgd", {"epsilon": 0.1, "steps": 3}))),
    "perturbed and averaged weights, mixed images": (
        CNN,
        ENTROPY,
        replace(
            SETTINGS,
            adversary=Spec("pgd", {"epsilon": 0.1, "steps": 3}),
            mixing=Spec("mixup", {"alpha": 1.0}),
            awp={"gamma": 0.05},
            ema={"decay": 0.9},
            schedule=Spec("piecewise"),
        ),
    ),
    "trades": (CNN, ENTROPY, replace(SETTINGS, adversary=Spec("trades", {"epsilon": 0.1, "steps": 3}))),
    "noise, and another attack in validation": (
        CNN,
        ENTROPY,
        replace(
            SETTINGS, adversary=Spec("gaussian", {"sigma": 0.1}), validation_adversary=Spec("fgsm", {"epsilon": 0.1})
        ),
    ),
    "negatives": (SIGMOID, Spec("sigmoid_mse"), replace(SETTINGS, negatives=Spec("scrambling", {"share": 0.5}))),
    "batches in parts": (CNN, ENTROPY, replace(SETTINGS, batch_size=290)),
    "batch statistics and draws": (STATISTICS, ENTROPY, SETTINGS),
    "batch statistics under attack": (
        STATISTICS,
        ENTROPY,
        replace(
            SETTINGS,
            adversary=Spec("trades", {"epsilon": 0.1, "steps": 2}),
            validation_adversary=Spec("fgsm", {"epsilon": 0.1}),
        ),
    ),
    "recovery": (CNN, ENTROPY, replace(SETTINGS, recovery=Recovery(samples=20))),
}
LONG = replace(SETTINGS, batch_size=2, epochs=6)
"""Settings of the run that is paused; it has too many steps to be compared like the others."""
# One epoch: differences by rounding grow from step to step, most of all on processors without units for bfloat16.
BFLOAT16 = (STATISTICS, ENTROPY, replace(SETTINGS, precision="bfloat16", epochs=1))
RESUMED = "adam"
REQUESTED = 57
"""Steps after which one process requests a stop."""


def split(count: int, seed: int) -> Split:
    """Draw images and labels."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *SHAPE), generator=draws, dtype=torch.uint8)
    return Split(images, torch.randint(10, (count,), generator=draws))


def new_run(name: str, processes: DataParallelGroup | None = None) -> TrainingRun:
    """Return a new run in float64, so that differences beyond rounding are errors."""
    model, loss, settings = (CNN, ENTROPY, LONG) if name == "long" else RUNS[name]
    network = build(model, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5]).double()
    count = 300 if settings.batch_size > 256 else 50
    return TrainingRun(network, loss, split(count, 0), split(25, 1), settings=settings, seed=0, processes=processes)


def bfloat16_run(processes: DataParallelGroup | None = None) -> TrainingRun:
    """Return a new run in bfloat16, of a user's module, whose logits are bfloat16 too.

    All batches are full: statistics of two images would enlarge any rounding.
    """
    model, loss, settings = BFLOAT16
    network = build(model, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5])
    return TrainingRun(network, loss, split(48, 0), split(25, 1), settings=settings, seed=0, processes=processes)


def run_to_end(run: TrainingRun) -> dict[str, Any]:
    """Train to the end; return weights and history."""
    while not run.finished:
        run.run_epoch()
    history = [{name: value for name, value in asdict(epoch).items() if name not in VOLATILE} for epoch in run.history]
    return {"weights": run.result().network.state_dict(), "history": history}


def run_half_way(run: TrainingRun) -> TrainingRun:
    """Train into the second epoch."""
    run.run_epoch()
    run.run_steps(2)
    return run


def checkpoints(folder: Path, of: str) -> Checkpoints:
    """Return the checkpoints of one process or of several."""
    return Checkpoints(folder / f"{of}.checkpoint", recipe="none")


class CountingGroup(DataParallelGroup):
    """Group that counts its agreements."""

    agreements = 0

    def maxima(self, values: Sequence[int]) -> list[int]:
        """Count a call."""
        self.agreements += 1
        return super().maxima(values)


def pause_in_one_process(processes: CountingGroup) -> dict[str, Any]:
    """Train with steps of a tenth of a second, by a clock of our own, until a stop that process 1 requests."""
    run = new_run("long", processes)
    stop, count = StopRequest("a test"), 0
    pauses = Pauses(None, stop, processes, clock=lambda: 0.1 * count)
    while True:
        run.run_steps(1)
        count += 1
        if count == REQUESTED and processes.rank == 1:
            stop.received = signal.SIGTERM
        if pauses.after_step():
            break
        if run.step == run.batches.steps:
            run.run_epoch()
    paused = run.state()
    run.run_epoch()
    resumed = new_run("long", processes)
    resumed.restore(paused)
    resumed.run_epoch()
    return {
        "steps": count,
        "stopped": pauses.stopped,
        "agreements": processes.agreements,
        "unbroken": run.state().weights,
        "resumed": resumed.state().weights,
    }


def normed() -> nn.Module:
    """Return layers with the spectral normalization of torch; the weight has as many rows as batches have images."""
    return nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(4, 8, 1)), nn.Conv2d(8, 4, 1))


def refusal(module: nn.Module, processes: DataParallelGroup) -> str:
    """Return the error for a network with a layer that cannot be distributed."""
    # With other weights, the statistics of parts may differ from those of the whole batch by less than is noticed.
    torch.manual_seed(0)
    network = build(CNN, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5])
    network.body.insert(0, module)
    network.body.insert(0, nn.Conv2d(1, 4, 1))
    network.body.insert(2, nn.Conv2d(4, 1, 1))
    try:
        SplitPasses(network, torch.rand(8, *SHAPE), batch_size=16, processes=processes).detach()
    except GauntletError as error:
        return str(error)
    return ""


def drift_error(processes: DataParallelGroup, value: float) -> str:
    """Return the error for weights that are zero, except for one in one process."""
    network = build(CNN, image_shape=SHAPE, num_classes=10, mean=[0.5], std=[0.5])
    weights = next(iter(network.parameters())).detach().zero_()
    processes.check_weights(network)
    if processes.rank == 1:
        weights.view(-1)[0] = value
    try:
        processes.check_weights(network)
    except GauntletError as error:
        return str(error)
    return ""


def lost_process_error(processes: DataParallelGroup) -> str:
    """Return the error for a process that ends during a training."""
    run = new_run("cross-entropy", processes)
    run.run_steps(1)
    if processes.rank == processes.world_size - 1:
        os._exit(1)
    try:
        run.run_epoch()
    except GauntletError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Run all cases, and save the results of the first process."""
    dist.init_process_group("gloo")
    processes = DataParallelGroup()
    found: dict[str, Any] = {"runs": {name: run_to_end(new_run(name, processes)) for name in RUNS}}
    found["bfloat16"] = run_to_end(bfloat16_run(processes))
    taken_up = new_run(RESUMED, processes)
    state = processes.broadcast(checkpoints(folder, "one").load() if processes.rank == 0 else None)
    assert state is not None
    taken_up.restore(state)
    found["taken up"] = run_to_end(taken_up)
    stopped = run_half_way(new_run(RESUMED, processes)).live_state()
    found["paused"] = pause_in_one_process(CountingGroup())
    found["refusals"] = {
        type(module).__name__: refusal(module, processes)
        for module in (
            Centered(),
            DrawingBlock(),
            nn.InstanceNorm2d(4, track_running_stats=True),
            nn.BatchNorm2d(4),
            normed(),
        )
    }
    found["drifted"] = {value: drift_error(processes, value) for value in (0.0, 1e-6, math.nan, math.inf)}
    found["lost"] = lost_process_error(processes)
    if processes.rank == 0:
        checkpoints(folder, "several").save(stopped)
        torch.save(found, folder / "found.pt")
    # Orderly ends wait for all, and one is gone.
    os._exit(0)


def fork(rank: int, folder: Path) -> int:
    """Run all cases in a fork of this process, which has loaded the libraries; return its process id."""
    process = os.fork()
    if process:
        return process
    os.environ["RANK"] = str(rank)
    try:
        main(folder)
    finally:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    checkpoints(folder, "one").save(run_half_way(new_run(RESUMED)).live_state())
    os.environ["WORLD_SIZE"] = str(PROCESSES)
    forks = [fork(rank, folder) for rank in range(PROCESSES)]
    first, *_ = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in forks]
    sys.exit(first)
