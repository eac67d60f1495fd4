"""The quick form of an experiment: a smaller experiment derived by merging changes."""

from __future__ import annotations

import copy
import re

import pytest
from typer.testing import CliRunner

from gauntlet.cli import app
from gauntlet.config import load
from gauntlet.config.quick import expanded, merged
from gauntlet.core.errors import InputError
from gauntlet.pipeline import paths
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.status import collect_status
from tests.support.stub_outputs import CONFIG, finish_cells, staleness_in, write_config
from tests.support.yaml_text import dump_yaml

QUICK = {
    "seeds": [0],
    "dataset": {"limit": {"train": 200, "test": 50}},
    "attacks": {"ddn": None, "pgd": {"steps": 1}},
    "variants": {"ecc": None},
}


def configuration(quick=QUICK, **more):
    """Return the small configuration with a quick form, and further experiments."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["quick"] = copy.deepcopy(quick)
    config["experiments"] |= more
    return config


def data_cell(graph, experiment):
    """Return the cell that stores an experiment's data set."""
    (cell,) = [cell for cell in graph.cells([experiment]) if cell.stage.name == "prepare"]
    return cell


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the small configuration and its quick form."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, configuration())
    return tmp_path


@pytest.mark.parametrize(
    ("full", "changes", "result"),
    [
        ({"a": 1, "b": 2}, {}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"c": 3, "a": 4}, {"a": 4, "b": 2, "c": 3}),
        ({"a": {"x": 1, "y": {"z": 2}}}, {"a": {"y": {"w": 3}}}, {"a": {"x": 1, "y": {"z": 2, "w": 3}}}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ({"a": "name"}, {"a": {"name": "other"}}, {"a": {"name": "other"}}),
        ({"a": {"name": "other"}}, {"a": "name"}, {"a": "name"}),
        ({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": None}, "b": None}, {"a": {"y": 2}}),
        ({"a": None}, {"b": 1}, {"a": None, "b": 1}),
        ({}, {"a": {"x": None}}, {"a": {"x": None}}),
    ],
)
def test_mappings_merge_and_all_else_replaces(full, changes, result):
    """Mappings merge by key at any depth in the full form's order, null removes a key, other values replace."""
    before = copy.deepcopy((full, changes))
    found = merged(full, changes)
    assert found == result
    assert list(found) == list(result)
    assert (full, changes) == before


def test_a_quick_form_is_an_experiment_of_its_own(folder):
    """The quick form follows its full form and has its own data split; the full form is unchanged."""
    config = load([folder / "config.yaml"])
    assert (config.full_forms, config.quick_forms) == (("small",), ("small_quick",))
    assert list(config.experiments) == ["small", "small_quick"]
    full, quick = config.experiments.values()
    assert (quick.seeds, list(quick.variants)) == ((0,), ["softmax", "lipschitz"])
    assert list(quick.attacks) == ["fgsm", "pgd", "noise"]
    assert quick.attacks["pgd"].attack.options["steps"] == 1
    assert quick.training == full.training
    assert paths.dataset_id(quick.dataset) != paths.dataset_id(full.dataset)
    assert full.as_dict() == load([write_config(folder, CONFIG)]).experiments["small"].as_dict()


def test_a_quick_form_without_data_changes_shares_the_split(folder):
    """A quick form with the same data settings has no split of its own."""
    config = load([write_config(folder, configuration({"seeds": [0]}))])
    assert len([cell for cell in Graph(config).cells() if cell.stage.name == "prepare"]) == 1


@pytest.mark.parametrize(
    ("quick", "message"),
    [
        ({"sedes": [0]}, "small.quick.sedes: unknown key; did you mean 'seeds'"),
        ({"training": {"epochs": 0}}, "small.quick.training.epochs: expected a number above 0, got 0"),
        ({"attacks": {"pgd": {"stepz": 1}}}, "small.quick.attacks.pgd.stepz: unknown key; did you mean 'steps'"),
        (
            {"attacks": {"pdg": None}},
            "small.quick.attacks.pdg: null removes a key, and the full form has no 'pdg'; did",
        ),
        (
            {"attacks": {"pdg": {"steps": 1}}},
            "small.quick.attacks.pdg: the full form has no 'pdg', and a new one needs `name`; did you mean 'pgd'?",
        ),
        (
            {"variants": {"lipshitz": {"training": {"epochs": 1}}}},
            "small.quick.variants.lipshitz: the full form has no 'lipshitz', and a new one needs `model`",
        ),
        ({"dataset": None}, "small.quick.dataset: this key is required"),
        ({"quick": {"seeds": [0]}}, "small.quick.quick: a quick form has no quick form of its own"),
        ({"variants": {"lipschitz": None}}, "small.quick.certificates.lipschitz: no variant has a lipschitz network"),
        *(
            ({"variants": wrong}, "small.quick.variants: expected a mapping")
            for wrong in (5, "text", [1], ["ab"], True, [])
        ),
        ({1: 2}, "small.quick.1"),
        (5, "small.quick: expected a mapping, got 5"),
        ([], "small.quick: expected a mapping, got an empty list"),
    ],
)
def test_a_mistake_in_a_quick_form_is_reported_once_at_its_key(tmp_path, quick, message):
    """The one line of the error names the key to correct."""
    file = write_config(tmp_path, configuration(quick))
    with pytest.raises(InputError) as caught:
        load([file])
    (line,) = str(caught.value).splitlines()
    assert re.match(rf"{re.escape(str(file))}:\d+:\d+: experiments\.{re.escape(message)}", line), line


def test_a_mistake_of_the_full_form_is_not_reported_again(tmp_path):
    """Only mistakes of the quick form itself are added."""
    config = configuration({"training": {"epochs": -1}})
    config["experiments"]["small"]["attacks"]["pgd"]["stepz"] = 3
    with pytest.raises(InputError) as caught:
        load([write_config(tmp_path, config)])
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "experiments.small.attacks.pgd.stepz: unknown key" in lines[0]
    assert "experiments.small.quick.training.epochs" in lines[1]


def test_a_quick_form_with_a_taken_name_is_refused(tmp_path):
    """Two experiments of one name are refused, also in different files."""
    file = write_config(tmp_path, configuration())
    other = tmp_path / "other.yaml"
    other.write_text(dump_yaml({"experiments": {"small_quick": CONFIG["experiments"]["small"]}}))
    for files in ([file, other], [other, file]):
        with pytest.raises(InputError, match=r"config\.yaml:\d+:5: experiments\.small\.quick: .* called 'small_quick'"):
            load(files)


def test_malformed_experiments_are_left_to_the_schema():
    """The expansion passes on values that are no mappings."""
    assert expanded({"a": 5, "b": {"quick": 3}}).experiments == {"a": 5, "b": {"quick": 3}}


def test_neither_form_makes_the_other_stale(folder):
    """An edit of one form leaves every cell of the other current."""
    finish_cells(folder)
    config = configuration({**QUICK, "training": {"epochs": 2}})
    write_config(folder, config)
    assert {cell.experiment for cell in staleness_in(folder).unfinished()} == {"small_quick"}
    write_config(folder, configuration())
    assert staleness_in(folder).unfinished() == []
    config = configuration()
    config["experiments"]["small"]["attacks"]["ddn"]["steps"] = 4
    write_config(folder, config)
    assert {cell.experiment for cell in staleness_in(folder).unfinished()} == {"small"}


def test_no_cell_reads_the_other_forms_files(folder):
    """Cells of quick and full form read their own form's files only."""
    staleness = staleness_in(folder)
    for name in staleness.graph.config.experiments:
        read = {maker for cell in staleness.graph.cells_of(name) for maker in staleness.graph.upstream(cell)}
        assert {maker.experiment for maker in read} == {name, ""}
        assert {maker.name for maker in read if not maker.experiment} == {data_cell(staleness.graph, name).name}


def test_status_lists_quick_forms_once_started_or_requested(folder):
    """A quick form is listed if its results folder exists or `quick` is requested."""

    def listed(**options):
        return {status.cell.experiment for status in collect_status(staleness_in(folder), **options).cells} - {""}

    assert listed() == {"small"}
    assert len([s for s in collect_status(staleness_in(folder)).cells if s.cell.stage.name == "prepare"]) == 1
    assert listed(quick=True) == {"small", "small_quick"}
    paths.experiment_folder("small_quick").mkdir(parents=True)
    assert listed() == {"small", "small_quick"}


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], {"small"}),
        (["--experiment", "small_quick"], {"small_quick"}),
        (["--variant", "softmax"], {"small"}),
        (["--experiment", "small_quick", "--variant", "ecc"], set()),
    ],
)
def test_a_stage_runs_a_quick_form_by_name_only(folder, caplog, arguments, wanted):
    """`gauntlet train` without arguments runs the full form."""
    finish_cells(folder)
    with caplog.at_level("INFO"):
        done = CliRunner().invoke(app, ["train", *arguments])
    assert {record.args[0].experiment for record in caplog.records if "up to date" in record.msg} == wanted
    assert (done.exit_code == 0) == bool(wanted)


def test_data_are_prepared_for_the_named_form(folder, caplog):
    """Data are chosen by experiment or data set; the default is the full form."""
    finish_cells(folder)
    staleness = staleness_in(folder)
    full, quick = (data_cell(staleness.graph, name).name for name in ("small", "small_quick"))
    for arguments, wanted in ([], full), (["--experiment", "small_quick"], quick), (["--dataset", quick], quick):
        caplog.clear()
        with caplog.at_level("INFO"):
            assert CliRunner().invoke(app, ["prepare", *arguments]).exit_code == 0
        assert [record.args[0].name for record in caplog.records if "up to date" in record.msg] == [wanted]


def test_check_counts_both_forms(folder):
    """`gauntlet check` lists the cells of both forms."""
    out = CliRunner().invoke(app, ["check"]).output
    assert out.splitlines() == [
        "small: 6 train, 24 evaluate, 2 certify, 6 diagnose, 3 inspect",
        "small_quick: 2 train, 6 evaluate, 1 certify, 2 diagnose, 2 inspect",
    ]


def test_a_missing_checkpoint_of_a_quick_form_is_reported_at_its_key(folder):
    """A checkpoint that both forms have is reported at the full form alone."""
    config = configuration({"seeds": [0], "variants": {"tuned": {"weights": "quick.pt"}}})
    adopted = {name: {"model": "cnn", "weights": f"{name}.pt"} for name in ("kept", "tuned")}
    config["experiments"]["small"]["variants"] |= adopted
    write_config(folder, config)
    refused = CliRunner().invoke(app, ["check"]).exception
    assert isinstance(refused, InputError)
    found = re.findall(r"experiments\.small\.(\S+): there is no file '(\w+)\.pt'", str(refused))
    assert found == [
        ("variants.kept.weights", "kept"),
        ("variants.tuned.weights", "tuned"),
        ("quick.variants.tuned.weights", "quick"),
    ]


def test_null_over_null_is_no_mistake(folder):
    """A key that the full form sets to null is there to be removed."""
    config = configuration({"samples": None, "variants": {"ecc": {"normalize": None}}})
    config["experiments"]["small"]["samples"] = None
    config["experiments"]["small"]["variants"]["ecc"]["normalize"] = None
    assert load([write_config(folder, config)]).experiments["small_quick"].samples is None
