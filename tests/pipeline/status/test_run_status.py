"""The status of a run: the state of each cell, its changes, and its cost."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time

import pytest

from gauntlet.core.provenance import environment
from gauntlet.pipeline import fingerprint, paths
from gauntlet.pipeline.cluster import lock
from gauntlet.pipeline.status import CellState, collect_status
from gauntlet.pipeline.status.json_status import status_as_dict
from tests.support.cells import make_cell
from tests.support.stub_outputs import staleness_in, write_config
from tests.support.synthetic_outputs import SMALL, STAGE_SECONDS, finish_cell, finish_cells

PGD = make_cell("evaluate", "small", "softmax", 0, "pgd")
MODEL = make_cell("train", "small", "softmax", 0)


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of the finished run, which is the current folder."""
    subprocess.run(["cp", "-r", f"{finished}/.", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def edited(folder, edit):
    """Write an edited configuration."""
    config = copy.deepcopy(SMALL)
    edit(config["experiments"]["small"], config)
    write_config(folder, config)


def unfinished(folder):
    """Map each unfinished cell to its state and changes."""
    found = collect_status(staleness_in(folder)).cells
    return {
        status.cell: (status.state, [str(change) for change in status.changes])
        for status in found
        if status.state is not CellState.DONE
    }


def test_a_finished_run_is_done(folder):
    """Every cell is done, and the environment is not reported."""
    found = collect_status(staleness_in(folder))
    assert {status.state for status in found.cells} == {CellState.DONE}
    assert found.environments == ()


@pytest.mark.parametrize(
    ("edit", "cell", "text"),
    [
        (lambda one, _: one["attacks"]["pgd"].update(steps=100), PGD, "attacks.pgd.steps: 40 -> 100"),
        (
            lambda one, _: one["attacks"]["pgd"].update(epsilons=[0.1, 0.2]),
            PGD,
            "attacks.pgd.epsilons: [0.1] -> [0.1, 0.2]",
        ),
        (lambda one, _: one.update(samples=7), PGD, "samples: null -> 7"),
        (lambda one, _: one["attacks"]["pgd"].update(samples=7), PGD, "attacks.pgd.samples: null -> 7"),
        (
            lambda one, _: one["training"].update(epochs=5),
            make_cell("train", "small", "lipschitz", 0),
            "training.epochs: 1 -> 5",
        ),
        (
            lambda one, _: one["variants"]["softmax"]["training"].update(epochs=5),
            MODEL,
            "variants.softmax.training.epochs: 2 -> 5",
        ),
        (
            lambda one, _: one["variants"]["softmax"].update(model={"name": "cnn", "widths": [8]}),
            MODEL,
            "variants.softmax.model.widths: ",
        ),
        (
            lambda one, _: one["training"].update(optimizer={"name": "adam", "lr": 0.5}),
            MODEL,
            "training.optimizer.lr: 0.001 -> 0.5",
        ),
        (
            lambda one, _: one["certificates"]["lipschitz"].update(seed=3),
            make_cell("certify", "small", "lipschitz", 1, "lipschitz"),
            "certificates.lipschitz.seed: 0 -> 3",
        ),
    ],
)
def test_a_changed_setting_is_named_as_in_the_file(folder, edit, cell, text):
    """The change is path, old value and new value, and nothing else."""
    edited(folder, edit)
    progress, changes = unfinished(folder)[cell]
    assert progress is CellState.STALE
    assert len(changes) == 1
    assert changes[0].startswith(text)


def test_a_changed_module_is_named(folder, monkeypatch):
    """Only cells of the edited attack name its module."""
    real = fingerprint.module_hash
    monkeypatch.setattr(
        fingerprint, "module_hash", lambda name: "edited" if name == "gauntlet.robustness.attacks.noise" else real(name)
    )
    monkeypatch.setattr(fingerprint, "_fingerprint", fingerprint._fingerprint.__wrapped__)
    found = unfinished(folder)
    noise = make_cell("evaluate", "small", "softmax", 0, "noise")
    assert found[noise] == (CellState.STALE, ["code changed: gauntlet.robustness.attacks.noise"])
    assert PGD not in found


def test_a_changed_input_and_the_wait_for_it_are_named(folder):
    """Other weights are a changed input; a stale or missing input is waited for."""
    finish_cell(staleness_in(folder), MODEL, "other weights")
    assert unfinished(folder)[PGD] == (CellState.STALE, [f"input changed: {paths.model_manifest(MODEL)}"])
    edited(folder, lambda one, _: one["variants"]["softmax"]["training"].update(epochs=5))
    assert f"waits for {MODEL}" in unfinished(folder)[PGD][1]
    for path in MODEL.outputs:
        path.unlink()
    found = unfinished(folder)
    assert found[MODEL] == (CellState.MISSING, [])
    assert found[PGD] == (CellState.STALE, [f"waits for {MODEL}"])


def test_a_missing_file_is_named(folder):
    """A cell without one of its files is missing."""
    paths.examples(PGD).unlink()
    status = next(status for status in collect_status(staleness_in(folder)).cells if status.cell == PGD)
    assert (status.state, status.missing_files) == (CellState.MISSING, (paths.examples(PGD),))


def test_a_file_of_another_cell_is_stale(folder):
    """Files exchanged between cells make both stale."""
    other = make_cell("evaluate", "small", "softmax", 1, "pgd")
    for path_of in (paths.samples, paths.examples):
        mine, its = path_of(PGD), path_of(other)
        kept = mine.read_bytes()
        mine.write_bytes(its.read_bytes())
        progress, changes = unfinished(folder)[PGD]
        assert progress is CellState.STALE
        assert "seed: 1 -> 0" in changes
        mine.write_bytes(kept)
    assert unfinished(folder) == {}


def test_a_stale_figure_names_no_detail(folder):
    """A figure holds only the recipe's hash."""
    figure = make_cell("figure", "small", name="robust_accuracy")
    path = paths.figure("small", "robust_accuracy", "pdf")
    path.write_text(path.read_text().replace("sha256:", "sha256:0000", 1)[:90] + " ")
    assert unfinished(folder)[figure][1] == ["made from other inputs, settings or code"]


def test_costs_come_from_the_cell_itself_then_from_others_alike(folder):
    """A stale cell costs its last duration, a missing one that of its attack or stage, or is unknown."""
    for seed in (0, 1):
        for path in make_cell("evaluate", "small", "lipschitz", seed, "noise").outputs:
            path.unlink()
    edited(folder, lambda one, _: one["attacks"].update(fgsm={"name": "fgsm", "norm": "linf", "epsilons": [0.1]}))
    found = collect_status(staleness_in(folder))
    costs = {status.cell: status.cost_s for status in found.cells if status.state is not CellState.DONE}
    assert costs[make_cell("evaluate", "small", "lipschitz", 0, "noise")] == STAGE_SECONDS["evaluate"]
    assert costs[make_cell("evaluate", "small", "softmax", 0, "fgsm")] == STAGE_SECONDS["evaluate"]
    assert costs[make_cell("report", "small")] is None
    total = status_as_dict(found)["total"]
    assert total["missing"] == 6
    assert total["cost_s"] == pytest.approx(6 * STAGE_SECONDS["evaluate"] + 1.0)
    assert total["cost_unknown"] == sum(cost is None for cost in costs.values())


def test_a_cell_in_shards_costs_what_they_took(folder):
    """Its file has the seconds of the job that gathered them; the last complete division counts."""
    other = make_cell("evaluate", "small", "lipschitz", 1, "pgd")
    for path in other.outputs:
        path.unlink()
    edited(folder, lambda one, _: one["attacks"]["pgd"].update(shards=2, steps=100))

    def write(cell, shards, seconds, count=None):
        for shard in range(count or shards):
            file = paths.log(cell, shard + 1, shards).with_suffix(".tsv")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")

    def costs():
        found = collect_status(staleness_in(folder)).cells
        return {status.cell: status.cost_s for status in found}

    assert costs()[PGD] == STAGE_SECONDS["evaluate"]
    write(PGD, 4, 7.0, count=3)
    assert costs()[PGD] == STAGE_SECONDS["evaluate"]
    write(PGD, 3, 1000.0)
    assert costs()[PGD] == 3000.0
    for seed, variant in ((1, "softmax"), (0, "lipschitz")):
        write(make_cell("evaluate", "small", variant, seed, "pgd"), 2, 2000.0)
    assert costs()[other] == 4000.0


def test_durations_of_quick_cells_do_not_count_for_full_ones(folder):
    """Within a form, durations of an attack count."""
    edited(folder, lambda one, _: one.update(quick={"samples": 5}))
    for cell in list(staleness_in(folder).graph.cells(["small_quick"])):
        if cell.stage.name in ("prepare", "train", "evaluate") and cell.seed == 0:
            finish_cell(staleness_in(folder), cell)
    for path in folder.glob("results/small/evaluations/*/*/*/*"):
        path.unlink()
    costs = {status.cell: status.cost_s for status in collect_status(staleness_in(folder)).cells}
    assert costs[PGD] is None
    assert costs[make_cell("evaluate", "small_quick", "softmax", 1, "pgd")] == STAGE_SECONDS["evaluate"]


def test_a_failed_attempt_is_reported_with_its_last_line(folder):
    """The log is newer than the files and ends with an error; other logs are ignored."""
    paths.samples(PGD).unlink()
    log = paths.log(PGD)
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\rgauntlet: the disk is full; free space\n\n")
    status = next(status for status in collect_status(staleness_in(folder)).cells if status.cell == PGD)
    assert (status.state, status.last_line) == (CellState.FAILED, "gauntlet: the disk is full; free space")
    os.utime(log, (1, 1))
    assert unfinished(folder)[PGD][0] is CellState.MISSING
    log.write_text("half way\n")
    assert unfinished(folder)[PGD][0] is CellState.MISSING


def test_a_failed_shard_is_a_failure_of_its_cell(folder):
    """Its log is its own; a shard of another division does not count."""
    edited(folder, lambda one, _: one["attacks"]["pgd"].update(shards=3))
    paths.samples(PGD).unlink()
    for shard, shards, line in ((1, 3, "20 of 20 samples"), (2, 3, "gauntlet: no memory"), (1, 2, "gauntlet: earlier")):
        log = paths.log(PGD, shard, shards)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"{line}\n")
        os.utime(log, (time.time() + shard,) * 2)
    status = next(status for status in collect_status(staleness_in(folder)).cells if status.cell == PGD)
    assert (status.state, status.last_line) == (CellState.FAILED, "gauntlet: no memory")
    os.utime(paths.log(PGD, 2, 3), (1, 1))
    assert unfinished(folder)[PGD][0] is CellState.MISSING


def test_a_cell_is_running_while_a_controller_lives(folder):
    """Its log is newer than the controller's start and ends without an error."""
    paths.samples(PGD).unlink()
    mine = lock.acquire(paths.RESULTS)
    log = paths.log(PGD)
    log.parent.mkdir(parents=True)
    log.write_text("evaluate: 3 of 20 samples")
    os.utime(log, (time.time() + 5, time.time() + 5))
    found = collect_status(staleness_in(folder))
    status = next(status for status in found.cells if status.cell == PGD)
    assert (status.state, status.last_line) == (CellState.RUNNING, "evaluate: 3 of 20 samples")
    assert found.controller == mine
    lock.release(paths.RESULTS, mine)
    assert unfinished(folder)[PGD][0] is CellState.MISSING


def another_torch(monkeypatch):
    """Change the installed version of torch."""
    now = {**environment.environment(), "torch": "99.0"}
    for module in (
        "gauntlet.core.provenance.environment",
        "gauntlet.pipeline.staleness",
        "gauntlet.pipeline.status.run_status",
    ):
        monkeypatch.setattr(f"{module}.environment", lambda: now)


def test_another_environment_is_reported_and_makes_nothing_stale(folder, monkeypatch):
    """Versions other than the present ones are reported with the number of cells."""
    was = environment.environment()["torch"]
    another_torch(monkeypatch)
    found = collect_status(staleness_in(folder))
    assert found.in_state(CellState.STALE) == []
    (other,) = found.environments
    unaware = ("figure", "table", "report")
    assert other.cells == len([cell for cell in staleness_in(folder).graph.cells() if cell.stage.name not in unaware])
    assert [str(change) for change in other.changes] == [f"environment, torch: {was} -> 99.0"]


def test_a_strict_environment_makes_all_stale(folder, monkeypatch):
    """With `strict_environment` the environment is part of every recipe."""
    edited(folder, lambda _, config: config.update(strict_environment=True))
    finish_cells(folder)
    assert unfinished(folder) == {}
    was = environment.environment()["torch"]
    another_torch(monkeypatch)
    found = unfinished(folder)
    assert set(found) == set(staleness_in(folder).graph.cells())
    assert f"environment, torch: {was} -> 99.0" in found[MODEL][1]


def test_the_command_prints_text_or_json_without_torch(folder):
    """Text and JSON have their form, the exit code is 0, and torch is not loaded."""
    edited(folder, lambda one, _: one["attacks"]["pgd"].update(steps=100))
    program = (
        "import sys; from gauntlet.cli import app\n"
        "try: app()\n"
        "finally: assert not {'torch', 'matplotlib', 'foolbox'} & set(sys.modules), 'slow imports'"
    )

    def run(*arguments):
        command = [sys.executable, "-c", program, "status", "config.yaml", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    text = run()
    assert "attacks.pgd.steps: 40 -> 100" in text
    assert "\x1b" not in text
    found = json.loads(run("--json"))
    assert set(found) == {
        "format",
        "cells",
        "stages",
        "total",
        "environments",
        "left_out",
        "controller",
    }
    cell = next(cell for cell in found["cells"] if cell["cell"] == str(PGD))
    assert cell == {
        "cell": str(PGD),
        "stage": "evaluate",
        "experiment": "small",
        "variant": "softmax",
        "seed": 0,
        "name": "pgd",
        "state": "stale",
        "changes": [
            {
                "kind": "setting",
                "name": "attacks.pgd.steps",
                "text": "attacks.pgd.steps: 40 -> 100",
                "before": 40,
                "after": 100,
            }
        ],
        "lacking": [],
        "last_line": None,
        "cost_s": 60.0,
        "share": None,
        "left_s": None,
    }
    assert found["total"]["stale"] == len(unfinished(folder))
