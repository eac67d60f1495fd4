"""Small trainings and evaluations to interrupt, and the command in separate processes to kill."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.core.parquet import read_table
from gauntlet.learning.models.weights import load_model_manifest
from gauntlet.learning.training.history import VOLATILE
from gauntlet.pipeline import paths
from gauntlet.pipeline.status.metadata import file_metadata
from gauntlet.registry import LOSSES
from tests.support.cells import make_cell
from tests.support.stub_outputs import write_config

MODEL = make_cell("train", "tiny", "softmax", 0)
ATTACK = make_cell("evaluate", "tiny", "softmax", 0, "pgd")

CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits"},
            "seeds": [0],
            "training": {
                "epochs": 3,
                "batch_size": 32,
                "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
                "schedule": "cosine",
                "augmentation": [{"name": "shift", "pixels": 1}],
            },
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [8, 8]}}},
            "attacks": {"pgd": {"name": "pgd", "norm": "linf", "steps": 20, "epsilons": [0.05, 0.1]}},
            "examples": 4,
        }
    },
    "execution": {"device": "cpu"},
}

# The command with smaller parts and a checkpoint at every step: seconds of work offer as many instants as hours.
# With GAUNTLET_TEST_PAUSE it pauses after writing so many files, until a test continues it.
FREQUENT_CHECKPOINTS = """
import os, signal, sys
from pathlib import Path
from gauntlet.robustness.evaluation import shards
from gauntlet.learning.training.checkpoints import Checkpoints
shards.BATCH_SIZES["cpu"] = 16
Checkpoints.due = lambda self: True
replace, left = Path.replace, int(os.environ.get("GAUNTLET_TEST_PAUSE", 0))
def counted(path, target):
    global left
    left -= 1
    written = replace(path, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    return written
Path.replace = counted
from gauntlet.cli import main
main()
"""


@LOSSES.register("squares", outputs=("sigmoid",))
def squared_error(network: nn.Module, outputs: Tensor, labels: Tensor) -> Tensor:
    """Return the squared error of ten sigmoids; a negative (-1) has no class."""
    wanted = functional.one_hot(labels.clamp(min=0), 10) * (labels >= 0)[:, None]
    return (outputs.sigmoid() - wanted).square().mean(dim=1)


def exploding_rate(epoch: int, epochs: int) -> float:
    """Return a factor that makes the second epoch diverge."""
    return 1e30 if epoch == 1 else 1.0


def start_command(folder: Path, *arguments: str, pause_after: int = 0) -> subprocess.Popen[str]:
    """Start the command in a folder; it pauses after writing `pause_after` files."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GAUNTLET_TEST_PAUSE": str(pause_after)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", FREQUENT_CHECKPOINTS, *arguments]
    return subprocess.Popen(command, cwd=folder, text=True, env=environment, stderr=subprocess.PIPE)


def run_command(folder: Path, *arguments: str) -> str:
    """Run the command to its end; return its standard error."""
    process = start_command(folder, *arguments)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def model_outcome() -> tuple[object, ...]:
    """Return everything that a training decides: weights, manifest, history without volatile columns."""
    folder = paths.model_folder(MODEL)
    return load_model_manifest(folder), read_table(paths.history(MODEL)).drop_columns(list(VOLATILE)).to_pylist()


def attack_outcome() -> tuple[object, ...]:
    """Return everything that an evaluation decides: its rows and its examples' digest."""
    return read_table(paths.samples(ATTACK)), file_metadata(paths.examples(ATTACK))["gauntlet.digest"]


def temporary_files(folder: Path) -> list[str]:
    """List temporary and partial files and folders."""
    return [str(path) for path in folder.rglob(".*") if "partial" in path.name or "shard" in path.name]


def write_training_config(folder, *, epochs, gpus, model=None):
    """Configure the tiny training for a number of processes, of another model if one is named."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["tiny"]["training"] |= {"epochs": epochs, "gpus": gpus}
    if model:
        config["experiments"]["tiny"]["variants"]["softmax"]["model"] = model
    write_config(folder, config)


def training_outcome():
    """Return the weights and the losses of every epoch."""
    losses = read_table(paths.history(MODEL))["train_loss"].to_pylist()
    return load_file(paths.model_weights(MODEL)), losses
