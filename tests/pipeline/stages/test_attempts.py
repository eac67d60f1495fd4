"""Recorded seconds of cells that several attempts, or several jobs, made together."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
from typing import Any

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.core.parquet import read_metadata
from gauntlet.core.provenance.recipes import SECONDS_KEY
from gauntlet.learning.training.checkpoints import Checkpoints
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.evaluate import run as evaluate
from gauntlet.robustness.evaluation.partial_results import PartialResults
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

MODEL, ATTACK, CERTIFICATE = (
    make_cell(stage, "tiny", "softmax", 0, name)
    for stage, name in (("train", ""), ("evaluate", "few"), ("certify", "smooth"))
)
CONFIG: dict[str, Any] = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 200, "test": 60}},
            "seeds": [0],
            "training": {"epochs": 3, "batch_size": 20},
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [4]}}},
            "attacks": {"few": {"name": "fgsm", "norm": "linf", "epsilons": [0.05], "shards": 2}},
            "certificates": {"smooth": {"name": "smoothing", "n0": 10, "n": 20}},
            "diagnostics": {"enabled": False},
            "samples": 30,
        }
    },
    "execution": {"device": "cpu"},
}
LONG_S = 1e4


class Killed(BaseException):
    """The end of an attempt."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with data."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    command("prepare")
    return tmp_path


def command(stage: str) -> None:
    """Run a stage to its end."""
    assert CliRunner().invoke(app, [stage], catch_exceptions=False).exit_code == 0


def recorded(path) -> float:
    """Return the seconds in a file's metadata."""
    return float(read_metadata(path)[SECONDS_KEY])


def test_a_resumed_training_counts_its_earlier_attempts(folder, monkeypatch, caplog):
    """A first attempt of hours is in the seconds, not in the time left, which is that of the attempt that runs."""
    run, save = importlib.import_module("gauntlet.pipeline.stages.train.run").run, Checkpoints.save

    def saved_and_killed(checkpoints, state):
        if state.epochs < 2:
            return
        tally = dataclasses.replace(state.tally, seconds=LONG_S)
        history = [dataclasses.replace(epoch, seconds=LONG_S) for epoch in state.history]
        save(checkpoints, dataclasses.replace(state, tally=tally, history=history))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "due", lambda self: True)
        patch.setattr(Checkpoints, "save", saved_and_killed)
        with pytest.raises(Killed):
            run(staleness_in(folder).job(MODEL))
    with caplog.at_level(logging.INFO, "gauntlet"):
        run(staleness_in(folder).job(MODEL))
    assert 3 * LONG_S < recorded(paths.history(MODEL)) < 4 * LONG_S
    said = [message for message in caplog.messages if "epoch" in message]
    assert "resuming from epoch 3, step 1" in said[0]
    assert "3/3 epochs" in said[1]


@pytest.mark.parametrize("cell", [ATTACK, CERTIFICATE], ids=["attack", "certificate"])
def test_finished_parts_count_with_their_seconds(folder, monkeypatch, cell):
    """An attempt that is killed after a part leaves the seconds of this part to the next one."""
    command("train")
    stage = importlib.import_module(f"gauntlet.pipeline.stages.{cell.stage}.run")
    save = PartialResults.save

    def saved_and_killed(kept, part, *, seconds):
        assert 0 < seconds < LONG_S
        save(kept, part, seconds=LONG_S)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(PartialResults, "save", saved_and_killed)
        patch.setattr("gauntlet.pipeline.stages.certify.run.KEEP_EVERY_S", 0.0)
        with pytest.raises(Killed):
            stage.run(staleness_in(folder).job(cell))
    stage.run(staleness_in(folder).job(cell))
    assert LONG_S < recorded(paths.samples(cell)) < 2 * LONG_S


def test_shards_count_together(folder, monkeypatch):
    """The seconds of a split attack are those of all jobs."""
    command("train")
    job, save = staleness_in(folder).job(ATTACK), PartialResults.save
    monkeypatch.setattr(PartialResults, "save", functools.partialmethod(_slow, save))
    for shard in ("1/2", "2/2"):
        evaluate.run_shard(job, shard)
    evaluate.run(job)
    assert 2 * LONG_S < recorded(paths.samples(ATTACK)) < 3 * LONG_S


def _slow(kept: PartialResults, save: Any, part: Any, *, seconds: float) -> None:
    """Save a part as one of a slow machine."""
    save(kept, part, seconds=seconds + LONG_S)
