"""Budgets in normalized units: run, recorded, summarized and probed in pixels."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from gauntlet import evaluate as evaluate_in_notebook
from gauntlet.config.schema import Config
from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages.aggregate import run as aggregate
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.diagnose import run as diagnose
from gauntlet.pipeline.stages.evaluate import run as evaluate
from gauntlet.pipeline.stages.prepare import run as prepare
from gauntlet.pipeline.stages.train import run as train
from gauntlet.pipeline.staleness import Staleness
from gauntlet.reporting.aggregation import design_from_metadata
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config

EPSILONS = [0.1, 0.4]
CONFIG: dict[str, Any] = {
    "experiments": {
        "units": {
            "dataset": {"source": "sklearn_digits", "limit": {"train": 200, "test": 60}},
            "seeds": [0],
            "training": {"epochs": 1, "batch_size": 20},
            "variants": {"softmax": {"model": {"name": "cnn", "widths": [4]}}},
            "attacks": {
                "normal": {"name": "fgsm", "norm": "linf", "epsilons": EPSILONS, "units": "normalized"},
                "pixels": {"name": "fgsm", "norm": "linf", "epsilons": EPSILONS},
            },
            "diagnostics": {"enabled": False},
        }
    },
    "execution": {"device": "cpu"},
}


def experiment(**attack: object) -> Config:
    """Return the configuration with the attack `normal` changed; None removes a key."""
    plain = copy.deepcopy(CONFIG)
    merged = {**plain["experiments"]["units"]["attacks"]["normal"], **attack}
    plain["experiments"]["units"]["attacks"]["normal"] = {
        key: value for key, value in merged.items() if value is not None
    }
    return Config.model_validate(plain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from data to summary, made by the stages."""
    folder = tmp_path_factory.mktemp("units")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_config(folder, CONFIG)
        model = make_cell("train", "units", "softmax", 0)
        staleness = staleness_in(folder)
        data = next(cell for cell in staleness.graph.cells() if cell.stage.name == "prepare")
        done: list[tuple[ModuleType, Cell]] = [(prepare, data), (train, model)]
        done += [(evaluate, make_cell("evaluate", "units", "softmax", 0, name)) for name in ATTACKS]
        done += [(aggregate, make_cell("aggregate", "units"))]
        for stage, cell in done:
            staleness = staleness_in(folder)
            stage.run(staleness.job(cell))
    return folder


ATTACKS = tuple(CONFIG["experiments"]["units"]["attacks"])


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def std() -> float:
    """Return the standard deviation of the stored training images, mean over channels."""
    dataset = Config.model_validate(CONFIG).experiments["units"].dataset
    return float(np.mean(load_data_manifest(paths.data_folder(paths.dataset_id(dataset))).std))


def test_rows_hold_pixels() -> None:
    """A sample's budget is one of the two in pixels, and no image exceeds it."""
    rows = read_table(paths.samples(make_cell("evaluate", "units", "softmax", 0, "normal")))
    fooled = rows.filter(np.asarray(rows["status"].to_pylist()) == "adversarial")
    pixels = {epsilon * std() for epsilon in EPSILONS}
    assert 0.2 < std() < 0.5
    assert set(fooled["epsilon"].to_numpy()) == pixels
    assert (fooled["linf"].to_numpy() <= fooled["epsilon"].to_numpy() + 1e-6).all()


def test_curves_are_stated_at_pixels() -> None:
    """Budgets of figures and tables are in pixels, with accuracies counted by hand."""
    planned = design_from_metadata(read_metadata(paths.summary("units")))
    assert planned is not None
    grids = {attack.name: attack.epsilons for attack in planned.attacks}
    assert grids == {"normal": tuple(epsilon * std() for epsilon in EPSILONS), "pixels": tuple(EPSILONS)}
    rows = read_table(paths.samples(make_cell("evaluate", "units", "softmax", 0, "normal")))["epsilon"].to_pylist()
    summary = [row for row in read_table(paths.summary("units")).to_pylist() if row["attack"] == "normal"]
    for row in summary:
        held = [epsilon is None or epsilon > row["epsilon"] for epsilon in rows]
        assert row["robust_accuracy"] == pytest.approx(np.mean(held))
    assert {row["epsilon"] for row in summary if row["epsilon"]} == set(grids["normal"] or ())


def test_probes_are_run_at_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budgets of probes are the union of both grids in pixels."""
    asked: list[Any] = []

    def probe(*_: object, epsilons: object, **__: object) -> None:
        asked.append(epsilons)
        raise InterruptedError

    monkeypatch.setattr(diagnose, "run_probes", probe)
    job = staleness_in(folder).job(make_cell("diagnose", "units", "softmax", 0))
    with pytest.raises(InterruptedError):
        diagnose.run(job)
    assert asked == [{"linf": sorted([*EPSILONS, *(epsilon * std() for epsilon in EPSILONS)])}]


def test_normalized_units_change_a_slice_and_pixels_do_not() -> None:
    """Slices without units are unchanged; `normalized` changes those of attack and probes."""
    cells = [make_cell("evaluate", "units", "softmax", 0, "normal"), make_cell("diagnose", "units", "softmax", 0)]
    staleness = {units: Staleness.of(experiment(units=units)) for units in ("pixels", None, "normalized")}
    for cell in cells:
        pixels, default, normalized = (compared.outline(cell).slice for compared in staleness.values())
        assert pixels == default
        assert "units" not in str(default.get("attack"))
        assert "normalized" not in str(default)
        assert normalized != default
    assert staleness[None].outline(cells[1]).slice["budgets"] == {"linf": EPSILONS}


def test_the_same_ball_is_the_same_attack(folder: Path) -> None:
    """A converted attack equals one with these budgets in pixels."""
    cell = make_cell("evaluate", "units", "softmax", 0, "normal")
    asked = evaluate.attack_settings(staleness_in(folder).job(cell))
    assert asked.epsilons == tuple(epsilon * std() for epsilon in EPSILONS)
    by_hand = experiment(units=None, epsilons=[epsilon * std() for epsilon in EPSILONS])
    attack = by_hand.experiments["units"].attacks["normal"]
    assert (asked.spec, asked.norm, asked.epsilons) == (attack.attack, attack.norm, attack.epsilons)


def test_a_budget_beyond_the_pixel_range_is_refused(folder: Path) -> None:
    """In pixels the check refuses it; in normalized units the stage does, which knows the deviation."""
    settings = experiment(epsilons=[0.1, 30.0]).experiments["units"]
    with pytest.raises(InputError, match=r"attacks\.normal\.epsilons: pixels are in \[0, 1\].*or less"):
        in_pixels(settings)


def test_the_api_refuses_normalized_units() -> None:
    """The error asks for converted budgets, since the deviation is unknown."""
    attack = CONFIG["experiments"]["units"]["attacks"]["normal"]
    with pytest.raises(InputError, match="standard deviation is not known here"):
        evaluate_in_notebook(torch.nn.Identity(), torch.zeros(1, 1, 2, 2), torch.zeros(1), attack)
