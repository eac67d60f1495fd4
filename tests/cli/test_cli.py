"""The command-line interface: light imports, one line per error, exit codes."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app, main
from tests.support import ROOT
from tests.support.stub_outputs import CONFIG, staleness_in, write_config

STAGES = ("prepare", "train", "evaluate", "certify", "diagnose", "inspect", "aggregate", "figures", "tables", "report")


def run(monkeypatch, capsys, *arguments):
    """Run the command in this process; return exit code, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["gauntlet", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    # The command sets it for processes that it starts.
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    return caught.value.code, out, err


@pytest.mark.parametrize("statement", ["import gauntlet", "import gauntlet.cli", "import gauntlet.pipeline.staleness"])
def test_start_up_loads_no_heavy_library(statement):
    """`gauntlet --help` and Snakemake's helpers load neither torch nor matplotlib."""
    code = (
        f"import sys; {statement}; print([name for name in ('torch', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_stage():
    """Each stage is a sub-command with its own help."""
    shown = CliRunner().invoke(app, ["--help"]).output
    assert [stage for stage in (*STAGES, "check") if stage not in shown] == []
    for stage in STAGES:
        assert CliRunner().invoke(app, [stage, "--help"]).exit_code == 0


def test_check_counts_the_cells(monkeypatch, capsys):
    """`gauntlet check` counts the cells of a valid configuration and exits with 0."""
    code, out, _ = run(monkeypatch, capsys, "check", str(ROOT / "config.yaml"))
    assert code in (0, None)
    assert re.fullmatch(r"digits: 12 train, \d+ evaluate, 3 certify, 12 diagnose, 4 inspect\n", out)


def test_letters_that_the_locale_lacks_are_replaced(tmp_path):
    """An old locale has Latin letters only."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["variants"]["softmax"]["title"] = "ε-softmax"
    write_config(tmp_path, config)
    command = [sys.executable, "-m", "gauntlet", "check", "--show", "softmax"]
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?-softmax" in done.stdout


@pytest.mark.parametrize("stage", ["check", *STAGES])
def test_a_wrong_configuration_stops_every_stage(monkeypatch, capsys, tmp_path, stage):
    """Each stage exits with 2 and one line on standard error, and writes no file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("experiments: {a: {datset: x}}")
    code, out, err = run(monkeypatch, capsys, stage)
    assert (code, out) == (2, "")
    assert "experiments.a.datset: unknown key; did you mean 'dataset'" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_unknown_ids_are_refused_with_the_existing_ones(monkeypatch, capsys, tmp_path):
    """A misspelt variant exits with 2 and lists the variants."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    code, _, err = run(monkeypatch, capsys, "train", "--variant", "softmaxx")
    assert code == 2
    assert "no train cell matches --variant softmaxx; available: train small variant=softmax seed=0" in err


@pytest.mark.parametrize(
    ("stage", "needs"), [("effects", "a grid among its `variants`"), ("published", "the key `published`")]
)
def test_what_an_experiment_needs_for_a_stage_is_named(monkeypatch, capsys, tmp_path, stage, needs):
    """No experiment of the configuration has any of its cells."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    code, _, err = run(monkeypatch, capsys, stage)
    assert code == 2
    assert f"this configuration has no {stage} cells, for which an experiment needs {needs}" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("figures", "--out", "figures"),
        ("figures", "--out", "elsewhere"),
        ("figures", "--style", "paper"),
        ("tables", "--out", "elsewhere"),
        ("report", "--out", "elsewhere"),
    ],
)
def test_options_for_a_results_file_alone_are_refused_with_a_configuration(monkeypatch, capsys, stub_folder, arguments):
    """They would have no effect, their defaults too."""
    stage, option, value = arguments
    code, _, err = run(monkeypatch, capsys, stage, "config.yaml", option, value)
    assert code == 2
    assert f"{option} {value} is for a results file alone; name an evaluations.parquet" in err
    assert not (stub_folder / value).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("figures", "e.parquet", "--experiment", "tiny"), "--experiment has no effect on a results file"),
        (("tables", "e.parquet", "--force"), "--force has no effect on a results file"),
        (("report", "e.parquet", "config.yaml"), "e.parquet, config.yaml: a results file is read alone"),
        (("tables", "config.yaml", "e.parquet"), "config.yaml, e.parquet: a results file is read alone"),
    ],
)
def test_what_has_no_effect_on_a_results_file_is_refused(monkeypatch, capsys, stub_folder, arguments, message):
    """The file is all that is read, whatever else is named."""
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert message in err


@pytest.mark.parametrize("stage", ["figures", "tables", "report"])
def test_missing_results_are_not_called_stale(monkeypatch, capsys, tmp_path, caplog, stage):
    """Before anything was run there is one line, with the command that makes them."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    code, _, err = run(monkeypatch, capsys, stage)
    assert code == 1
    assert "or the whole run first" in err
    assert "stale" not in caplog.text + err


def test_a_missing_input_is_named_with_the_command_that_makes_it(monkeypatch, capsys, tmp_path):
    """Training before preparing exits with 1 and names the missing file."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    code, _, err = run(monkeypatch, capsys, "train")
    assert code == 1
    assert re.search(r"needs data/sklearn_digits-\w+/manifest\.json; run `gauntlet prepare`", err)


def test_a_current_cell_is_left_alone(monkeypatch, capsys, stub_folder, caplog):
    """A stage does nothing if no cell is stale."""
    before = {path: path.stat().st_mtime_ns for path in stub_folder.rglob("*") if path.is_file()}
    with caplog.at_level("INFO"):
        for stage in STAGES:
            assert run(monkeypatch, capsys, stage)[0] in (0, None)
    assert len(re.findall("up to date", caplog.text)) == len(list(staleness_in(stub_folder).graph.cells()))
    assert before == {path: path.stat().st_mtime_ns for path in stub_folder.rglob("*") if path.is_file()}


def test_aggregation_refuses_cells_of_another_configuration(monkeypatch, capsys, stub_folder):
    """Stale cells are named and the exit code is 1."""
    changed = copy.deepcopy(CONFIG)
    changed["experiments"]["small"]["attacks"]["pgd"]["steps"] = 4
    write_config(stub_folder, changed)
    code, _, err = run(monkeypatch, capsys, "aggregate")
    assert code == 1
    assert "6 cells were made by another configuration" in err
    assert "evaluate small variant=softmax seed=0 attack=pgd" in err


@pytest.mark.parametrize("stage", ["figures", "tables"])
def test_results_of_an_older_configuration_are_reported(monkeypatch, capsys, stub_folder, caplog, stage):
    """Commands that show results warn if the configuration has changed since."""
    run(monkeypatch, capsys, stage)
    assert "stale" not in caplog.text
    changed = copy.deepcopy(CONFIG)
    changed["experiments"]["small"]["attacks"]["pgd"]["steps"] = 4
    write_config(stub_folder, changed)
    run(monkeypatch, capsys, stage)
    assert "made from stale results: " in caplog.text
    assert "the next run makes them anew" in caplog.text


def test_a_misspelt_data_set_of_torchvision_is_named_with_its_place(tmp_path, monkeypatch, capsys):
    """Once, though the quick form has it too, and with the nearest name."""
    monkeypatch.chdir(tmp_path)
    text = "experiments:\n  e:\n    dataset: {source: torchvision, name: FashonMNIST, download: true}\n"
    text += "    variants: {v: {model: cnn}}\n    quick: {seeds: [0]}\n"
    (tmp_path / "config.yaml").write_text(text)
    code, _, err = run(monkeypatch, capsys, "check")
    assert code == 2
    [line] = err.splitlines()
    place = "gauntlet: config.yaml:3:36: experiments.e.dataset.name"
    assert line == f"{place}: torchvision has no image data set 'FashonMNIST'; did you mean 'FashionMNIST'?"
    (tmp_path / "config.yaml").write_text(text.replace("Fashon", "Fashion"))
    assert run(monkeypatch, capsys, "check")[0] in (0, None)


def test_a_missing_folder_of_data_is_named_with_its_place(tmp_path, monkeypatch, capsys):
    """Once, though the quick form has it too."""
    monkeypatch.chdir(tmp_path)
    text = "experiments:\n  e:\n    dataset: {source: imagefolder, root: gone}\n    variants: {v: {model: cnn}}\n"
    (tmp_path / "my config.yaml").write_text(text + "    quick: {seeds: [0]}\n")
    code, _, err = run(monkeypatch, capsys, "check", "my config.yaml")
    assert code == 2
    [line] = err.splitlines()
    assert line.startswith("gauntlet: my config.yaml:3:36: experiments.e.dataset.root: there is no folder 'gone'")
