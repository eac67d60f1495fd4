"""Training on images that remain in the files of a data set."""

from __future__ import annotations

from pathlib import Path

import torch

from gauntlet.config.variants import Recovery, Training
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.residence import resident
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.store import store
from gauntlet.learning.data.stored_images import StoredSplit, open_split
from gauntlet.learning.models.build import build
from gauntlet.learning.training.history import VOLATILE
from gauntlet.learning.training.loop import fit
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec

SETTINGS = Training(
    epochs=2,
    batch_size=48,
    augmentation=[Spec("shift", {"pixels": 1}), Spec("gaussian_noise", {"std": 0.1})],
    validation_adversary=Spec("fgsm", {"norm": "linf", "epsilon": 0.1}),
    recovery=Recovery(samples=50),
    ema={},
    mixing=Spec("mixup"),
)


def test_a_training_from_files_has_the_bytes_of_one_from_memory(tmp_path: Path) -> None:
    """Weights and history are equal, with whatever reads images or weights in a training."""
    data = store(tmp_path, select(Spec("sklearn_digits"), limit={"train": 400, "test": 100}))
    results = []
    for budget, kind in ((0, StoredSplit), (10**9, Split)):
        splits = [open_split(tmp_path, name) for name in ("train", "validation")]
        train, validation = resident(splits, torch.device("cpu"), budget=budget)
        assert isinstance(train, kind)
        assert isinstance(validation, kind)
        network = build(Spec("cnn"), image_shape=(1, 8, 8), num_classes=10, mean=data.mean, std=data.std, seed=0)
        fitted = fit(network, Spec("cross_entropy"), train, validation, settings=SETTINGS, seed=0)
        history = fitted.history.drop_columns(list(VOLATILE)).to_pylist()
        results.append((tensor_digest(fitted.network.state_dict()), history))
    assert results[0] == results[1]
    assert results[0][1][0]["robust_validation_accuracy"] is not None


def test_images_with_which_parts_of_a_batch_are_checked_are_on_the_device(tmp_path: Path) -> None:
    """A file is read onto the CPU, and the network may be elsewhere."""
    store(tmp_path, select(Spec("sklearn_digits"), limit={"train": 100, "test": 50}))
    train, validation = (open_split(tmp_path, name) for name in ("train", "validation"))
    network = build(Spec("cnn"), image_shape=(1, 8, 8), num_classes=10, mean=[0.5], std=[0.5])
    run = TrainingRun(network, Spec("cross_entropy"), train, validation, settings=Training(), seed=0, device="meta")
    assert run.passes.sample.device.type == "meta"
