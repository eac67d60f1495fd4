"""Predicted durations of attacks: trials, storage, precedence, and no other effect."""

from __future__ import annotations

import copy
import itertools
import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.pipeline import fingerprint, paths, predict
from gauntlet.pipeline.stages.catalog import stages
from gauntlet.pipeline.status import collect_status
from gauntlet.pipeline.status.predictions import Prediction, predicted_seconds
from gauntlet.robustness.evaluation.shards import part_ranges
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

FGSM, PGD = (make_cell("evaluate", "tiny", "softmax", 0, name) for name in ("fgsm", "pgd"))

CONFIG = {
    "experiments": {
        "tiny": {
            "dataset": {"source": "sklearn_digits"},
            "seeds": [0],
            "training": {"epochs": 1},
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [8, 8]}}},
            "attacks": {
                "fgsm": {"name": "fgsm", "norm": "linf", "epsilons": [0.05]},
                "pgd": {"name": "pgd", "norm": "linf", "steps": 5, "epsilons": [0.05]},
            },
            "samples": 300,
        }
    },
    "execution": {"device": "cpu"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model and nothing else, made once."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_config(folder, CONFIG)
        for stage in ("prepare", "train"):
            assert CliRunner().invoke(app, [stage], catch_exceptions=False).exit_code == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of that folder, which is the current one; process start-up is not measured."""
    subprocess.run(["cp", "-r", f"{trained}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "start_seconds", lambda: 1.5)
    return tmp_path


def costs(folder):
    """Map each unfinished evaluation to its cost in status."""
    found = collect_status(staleness_in(folder)).cells
    return {status.cell: status.cost_s for status in found if status.cell.stage.name == "evaluate"}


def test_trials_are_a_warm_up_a_batch_and_one_twice_as_large():
    """With few samples there are still three parts, none empty."""
    assert predict.trial_ranges(1000, 32) == [(0, 32), (32, 64), (64, 128)]
    assert predict.trial_ranges(40, 32) == [(0, 10), (10, 20), (20, 40)]
    for samples in (1, 2, 3, 5):
        tried = predict.trial_ranges(samples, 32)
        assert len(tried) == 3
        assert all(0 <= start < stop <= samples for start, stop in tried)


@pytest.mark.parametrize(("setup_s", "part_s", "sample_s"), [(4, 0.5, 0.01), (0, 0, 0.02), (2, 3, 0)])
def test_costs_of_set_up_parts_and_samples_are_separated(setup_s, part_s, sample_s):
    """Times that follow the cost model are predicted exactly."""
    tried = predict.trial_ranges(1000, 32)
    spent = [part_s + sample_s * (stop - start) for start, stop in tried]
    ends_s = [setup_s + end for end in itertools.accumulate(spent)]
    for shards in (1, 3):
        wanted = part_ranges(1000, part_size=256, shards=shards)
        expected = setup_s + part_s * len(wanted) + sample_s * 1000
        assert predict.extrapolate(tried, ends_s, wanted) == pytest.approx(expected)


def test_noise_makes_no_cost_negative():
    """A larger part faster than a smaller one, or a faster warm-up, still give a plausible time."""
    tried, wanted = predict.trial_ranges(1000, 32), [(0, 256)] * 4
    assert predict.extrapolate(tried, [0.1, 2.1, 3.1], wanted) == pytest.approx(4.0)
    assert predict.extrapolate(tried, [1.0, 1.1, 7.5], wanted) == pytest.approx(6.4 / 64 * 1024)
    one = predict.trial_ranges(1, 32)
    assert predict.extrapolate(one, [5.0, 5.5, 6.0], [(0, 1)]) == pytest.approx(5.0)


def test_a_trial_reads_the_clock_at_the_ends_of_its_parts(folder):
    """Set-up 3 s, then 2 s and 3 s for 32 and 64 samples: 1 s per part, 1/32 s per sample."""
    staleness = staleness_in(folder)
    clock = iter([100.0, 105.0, 107.0, 110.0])
    prediction = predict.predict(staleness.job(PGD), batch=32, start_seconds=1.5, clock=lambda: next(clock))
    assert prediction.seconds == pytest.approx(3 + 2 * 1 + 300 / 32, abs=1e-3)
    assert (prediction.samples, prediction.tried, prediction.start_seconds) == (300, 128, 1.5)
    assert prediction.recipe == staleness.recipe(PGD).digest
    assert prediction.device.startswith("cpu")


def test_a_model_that_does_not_fit_into_memory_is_named_and_the_others_are_tried(folder, monkeypatch, caplog):
    """As in the stage itself, this is one line and no traceback."""
    real, calls = predict.load_model, []

    def load_model(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("out of memory")
        return real(*arguments, **options)

    monkeypatch.setattr(predict, "load_model", load_model)
    found = predict.predict_all(staleness_in(folder), [FGSM, PGD], batch=8)
    assert [found[FGSM], found[PGD] is None] == [None, False]
    assert f"cannot be tried: {FGSM}: memory ran out" in caplog.text


def test_the_command_writes_predictions_only(folder):
    """One file per cell next to the logs, read by status; no result and no stale cell."""
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert costs(folder) == {FGSM: None, PGD: None}
    done = CliRunner().invoke(app, ["predict", "--attack", "pgd", "--samples", "8"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "evaluate tiny variant=softmax seed=0 attack=pgd" in done.stdout
    assert "32 of 300 samples tried" in done.stdout
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {path.relative_to(folder) for path in set(after) - set(before)} == {paths.prediction(PGD)}
    assert {path: after[path] for path in before} == before
    kept = json.loads(paths.prediction(PGD).read_text())
    assert costs(folder) == {FGSM: None, PGD: kept["seconds"]}
    assert kept["seconds"] > 0


def _foretell(folder, cell, seconds):
    recipe = staleness_in(folder).recipe(cell).digest
    Prediction(
        recipe=recipe, seconds=seconds, start_seconds=1.0, samples=300, tried=128, device="cpu, 1 threads", threads=1
    ).write(cell)


def test_a_prediction_of_another_recipe_is_ignored(folder):
    """An unreadable prediction is ignored too."""
    _foretell(folder, PGD, 77.0)
    assert costs(folder)[PGD] == 77.0
    config = copy.deepcopy(CONFIG)
    config["experiments"]["tiny"]["attacks"]["pgd"]["steps"] = 6
    write_config(folder, config)
    assert costs(folder)[PGD] is None
    write_config(folder, CONFIG)
    assert costs(folder)[PGD] == 77.0
    for text in ("{", "[]", '{"recipe": 1}', json.dumps({"recipe": "x"})):
        paths.prediction(PGD).write_text(text)
        assert costs(folder)[PGD] is None
    assert predicted_seconds(PGD, None) is None


def test_recorded_durations_of_the_attack_come_before_a_prediction(folder):
    """A prediction comes before durations of other attacks."""
    for cell in (FGSM, PGD):
        _foretell(folder, cell, 77.0)
    done = CliRunner().invoke(app, ["evaluate", "--attack", "fgsm"], catch_exceptions=False)
    assert done.exit_code == 0
    config = copy.deepcopy(CONFIG)
    config["experiments"]["tiny"]["seeds"] = [0, 1]
    write_config(folder, config)
    found = costs(folder)
    assert found[PGD] == 77.0
    other = make_cell("evaluate", "tiny", "softmax", 1, "fgsm")
    assert found[other] is not None
    assert found[other] != 77.0


def test_cells_without_a_model_are_named_and_done_ones_are_left_alone(folder):
    """Cells that cannot be tried yet are named, and finished ones tried on request only."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["tiny"]["seeds"] = [1]
    write_config(folder, config)
    done = CliRunner().invoke(app, ["predict"], catch_exceptions=False)
    assert done.stdout.count("not tried") == 2
    assert not [path for path in paths.LOGS.rglob("*") if path.is_file()]
    write_config(folder, CONFIG)
    CliRunner().invoke(app, ["evaluate", "--attack", "fgsm"], catch_exceptions=False)
    assert "1 cell done already" in CliRunner().invoke(app, ["predict", "--attack", "fgsm"]).stdout
    assert not paths.prediction(FGSM).exists()
    CliRunner().invoke(app, ["predict", "--attack", "fgsm", "--samples", "4", "--force"], catch_exceptions=False)
    assert paths.prediction(FGSM).exists()


@pytest.mark.parametrize("stage", stages(), ids=str)
def test_no_result_depends_on_how_durations_are_predicted(stage):
    """No stage imports the modules of predictions."""
    reached = fingerprint.fingerprint([stage.module])
    assert not [name for name in reached if name.startswith(("gauntlet.pipeline.predict", "gauntlet.pipeline.status"))]
