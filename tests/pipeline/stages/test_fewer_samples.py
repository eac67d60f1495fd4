"""An attack on fewer test images than the experiment, from its evaluation to the tables."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.pipeline import paths, predict
from gauntlet.pipeline.stages.aggregate import run as aggregate
from gauntlet.pipeline.stages.evaluate import run as evaluate
from gauntlet.reporting.aggregation import design_from_metadata
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

FEW = 9
ALL_CELL, FEW_CELL = (make_cell("evaluate", "tiny", "softmax", 0, name) for name in ("all", "few"))
FGSM = {"name": "fgsm", "norm": "linf", "epsilons": [0.05, 0.2]}
CONFIG: dict[str, Any] = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 200, "test": 60}},
            "seeds": [0],
            "training": {"epochs": 1, "batch_size": 20},
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [4]}}},
            "attacks": {"few": {**FGSM, "samples": FEW, "shards": 2}, "all": FGSM},
            "diagnostics": {"enabled": False},
            "samples": 30,
        }
    },
    "execution": {"device": "cpu"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a trained model, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "start_seconds", lambda: 1.5)
    write_config(tmp_path, CONFIG)
    for stage in ("prepare", "train"):
        assert CliRunner().invoke(app, [stage], catch_exceptions=False).exit_code == 0
    return tmp_path


def test_the_attack_is_run_on_the_first_images(folder):
    """Its rows are the first of those of the same attack on all; shards and predictions are of these images."""
    staleness = staleness_in(folder)
    assert predict.predict(staleness.job(FEW_CELL), batch=2, start_seconds=0.0).samples == FEW
    for name in ("1/2", "2/2"):
        evaluate.run_shard(staleness.job(FEW_CELL), name)
    evaluate.run(staleness.job(FEW_CELL))
    evaluate.run(staleness.job(ALL_CELL))
    few, every = (read_table(paths.samples(cell)).drop_columns(["attack"]) for cell in (FEW_CELL, ALL_CELL))
    assert (len(few), len(every)) == (FEW, 30)
    assert few.equals(every.slice(0, FEW))
    aggregate.run(staleness_in(folder).job(make_cell("aggregate", "tiny")))
    design = design_from_metadata(read_metadata(paths.evaluations("tiny")))
    assert design is not None
    assert {attack.name: attack.samples for attack in design.attacks} == {"few": FEW, "all": None}
    summary = read_table(paths.summary("tiny")).to_pylist()
    assert {row["attack"]: row["samples"] for row in summary} == {"worst:linf": 30, "few": FEW, "all": 30}
    assert f"few: on the first {FEW} samples only; not in the worst case." in paths.table("tiny", "md").read_text()


@pytest.mark.parametrize("samples", [60, 61])
def test_as_many_as_there_are_images_is_refused(folder, samples):
    """The number of test images decides if the experiment has no `samples`; the message has the key."""
    config = copy.deepcopy(CONFIG)
    del config["experiments"]["tiny"]["samples"]
    config["experiments"]["tiny"]["attacks"]["few"]["samples"] = samples
    write_config(folder, config)
    message = rf"tiny.attacks.few.samples: {samples} is not fewer than the 60 test images; leave it out"
    with pytest.raises(InputError, match=message):
        evaluate.run(staleness_in(folder).job(FEW_CELL))
