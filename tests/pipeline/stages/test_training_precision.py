"""The precision of training in a model's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

NETWORK = {"name": "cnn", "widths": [4], "head": {"name": "softmax", "hidden": 4}}


def test_files_state_the_precision_that_a_model_was_trained_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifest and metadata have each variant's; one that this machine does not have writes nothing."""
    precisions = ("float32", "bfloat16", "tf32")
    tiny = {
        "dataset": {"source": "sklearn_digits", "limit": {"train": 80, "test": 20}},
        "seeds": [1],
        "training": {"epochs": 1},
        "variants": {name: {"model": NETWORK, "training": {"precision": name}} for name in precisions},
        "attacks": {"f": {"name": "fgsm", "norm": "linf", "epsilons": [0.05]}},
    }
    # A configuration that names the CPU is refused when it is read.
    write_config(tmp_path, {"experiments": {"tiny": tiny}})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    for cell in [cell for cell in staleness_in(tmp_path).graph.cells() if cell.stage.name == "prepare"]:
        prepare.run(staleness_in(tmp_path).job(cell))
    staleness = staleness_in(tmp_path)
    for name in ("float32", "bfloat16"):
        cell = make_cell("train", "tiny", name, 1)
        train.run(staleness.job(cell))
        metadata = read_metadata(paths.history(cell))
        assert (metadata["gauntlet.precision"], metadata["gauntlet.arithmetic"]) == (name, "ieee")
        assert load_model(paths.model_folder(cell)).training_precision == name
    cell = make_cell("train", "tiny", "tf32", 1)
    with pytest.raises(InputError, match=r"training\.precision: the device cpu does not compute in tf32"):
        train.run(staleness.job(cell))
    assert not paths.model_folder(cell).exists()
