"""Options of Snakemake: refused where they would have no effect, acted on where they ask for work."""

from __future__ import annotations

import copy
import json
import re
import time

import pytest

from gauntlet.core.errors import InputError
from gauntlet.pipeline import snakemake_options
from gauntlet.pipeline.forcing import SINCE_VARIABLE, VARIABLE, Forced
from gauntlet.pipeline.run_stage import run_stage
from gauntlet.pipeline.stages.catalog import stage
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, write_config
from tests.support.workflow import link_workflow, planned_jobs, run_snakemake

PAGE = make_cell("report", "small")


@pytest.fixture
def folder(stub_folder):
    """A clone with a finished run of stub files."""
    link_workflow(stub_folder)
    return stub_folder


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (
            [
                "-n",
                "--config",
                "seeds=1",
                "--default-resources",
                "mem_mb=9",
                "--set-resources",
                "trian:mem_mb=5",
                "--set-scatter",
                "a=2",
            ],
            [
                "snakemake --config seeds: settings come from configuration files",
                "--default-resources mem_mb: every rule sets this resource",
                "snakemake --set-resources: no rule 'trian'; did you mean 'train'?",
                "snakemake --set-scatter: no rule scatters",
            ],
        ),
        pytest.param(
            ["--touch", "--omit-from", "tran"],
            ["--touch: time stamps decide nothing", "--omit-from: no rule 'tran'"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_option_without_effect_is_refused(folder, arguments, messages):
    """There is a line that says what to do instead, no traceback, and exit code 2."""
    done = run_snakemake(folder, *arguments, check=False)
    assert done.returncode == 2
    assert [message for message in messages if message not in done.stderr] == []
    assert "Traceback" not in done.stderr


def check(**changes):
    settings = {"config": {}, "default_resources": {}, "resources_of_rules": (), "threads_of_rules": ()}
    snakemake_options.check_settings(**{**settings, **changes}, rules=["train", "page"])


@pytest.mark.parametrize(("name", "key"), [("mem", "memory_mb"), ("runtime", "minutes"), ("gpu_model", "gpu_model")])
def test_a_default_for_what_the_configuration_sets_is_refused(name, key):
    """The message names the key."""
    with pytest.raises(InputError, match=f"--default-resources {name}: .*set `{key}` under `execution: cluster:`"):
        check(default_resources={name: "5"})


def test_defaults_for_what_the_configuration_leaves_open_are_taken():
    """Quotes around a text are removed; resources that only the plugin knows are none of ours."""
    given = {"slurm_account": "me", "slurm_extra": "'--mail-type=END'", "constraint": "a&b", "tasks": "4", "qos": "007"}
    check(default_resources=given)
    wanted = {"slurm_account": "me", "slurm_extra": "--mail-type=END", "constraint": "a&b", "qos": "007"}
    assert snakemake_options.plain_defaults(given) == wanted
    with pytest.raises(InputError, match="expected a plain value, got an expression"):
        check(default_resources={"slurm_partition": "'a' if threads > 1 else 'b'"})


def test_options_that_nothing_reads_are_refused():
    """No rule has shadow folders or scatters, and a job group is one that jobs have."""
    none = {"touch": False, "shadow_prefix": None, "omit_from": (), "rules": ()}
    with pytest.raises(InputError, match="no rule has shadow folders"):
        snakemake_options.check_run(**{**none, "shadow_prefix": "/local"})
    with pytest.raises(InputError, match="no job group 'cell'; did you mean 'cells'"):
        snakemake_options.check_run(**none, components=["cells", "cell"], groups=["trainings", "cells"])
    for option in ("--set-scatter", "--consider-ancient"):
        with pytest.raises(InputError, match=f"snakemake {option}: .*leave it out"):
            check(unused=[option])


@pytest.mark.parametrize(
    ("path", "as_script", "is_refused"),
    [
        ("/a b/c'd", False, False),
        ("/a;b&c|{d}", False, False),
        ("/a$b", True, False),
        ("/`id`", True, False),
        ("/a'b$c", True, True),
        ("/a\\b", True, True),
    ],
)
def test_folders_are_quoted_for_jobs_or_refused(path, as_script, is_refused):
    """The plugin wraps a job's command in double quotes, in which a shell expands variables and commands."""
    assert snakemake_options.need_script([path]) == as_script
    if is_refused:
        with pytest.raises(InputError, match="cannot be passed to a job"):
            snakemake_options.check_paths([path])
    else:
        snakemake_options.check_paths([path])


def test_names_that_break_lines_are_refused():
    """Logs and queues have one line per name."""
    for name in ("/a\nb", "/a\x1b[0m"):
        with pytest.raises(InputError, match="line break or a control character"):
            snakemake_options.check_folders(name, "/checkout")
    with pytest.raises(InputError, match="braces"):
        snakemake_options.check_folders("/a", "/{x}/workflow")
    snakemake_options.check_folders("/a {b} ä", "/checkout")


def test_rejections_of_sbatch_are_listed_once():
    """Snakemake prints them with the whole command, once per job and attempt."""
    error = "SLURM sbatch failed. The error message was 'sbatch: error: invalid\nsbatch: error: failed'.\n    call"
    assert snakemake_options.rejections(f"{error}\nx\n{error}") == ["sbatch: error: invalid sbatch: error: failed"]


MODELS = {"prepare": 1, "train": 6, "evaluate": 24, "certify": 2, "diagnose": 6}


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["-f", str(PAGE.outputs[0])], {"page": 1}),
        pytest.param(["-F", "tables"], {**MODELS, "aggregate": 1, "table": 1, "tables": 1}, marks=pytest.mark.slow),
        # The table depends on a forced cell, and is looked at.
        (["-R", "aggregate", "--until", "table"], {"aggregate": 1, "table": 1}),
    ],
)
def test_forced_cells_are_planned(folder, arguments, jobs):
    """Everything is current."""
    assert planned_jobs(folder, *arguments) == jobs


def test_a_forced_cell_is_made_again_once(tmp_path, monkeypatch):
    """A cell made since the run began is left alone: a retry does not repeat a whole group job."""
    monkeypatch.chdir(tmp_path)
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["dataset"]["limit"] = {"train": 40, "test": 10}
    write_config(tmp_path, config)
    [data] = run_stage(stage("prepare"))
    file = data.outputs[0]

    def is_made_again():
        before = file.stat().st_mtime_ns
        run_stage(stage("prepare"))
        return file.stat().st_mtime_ns != before

    assert not is_made_again()
    monkeypatch.setenv(VARIABLE, json.dumps([["prepare"], [], time.time()]))
    assert is_made_again()
    assert not is_made_again()


def test_what_is_forced_is_passed_on(monkeypatch, tmp_path):
    """The names of rules and files, and the time; a controller's later start continues with the first one's time."""
    monkeypatch.chdir(tmp_path)
    environment = {VARIABLE: json.dumps([["x"], [], 5.0])}
    Forced.begun_now([], []).to_environment(environment)
    assert environment == {}
    monkeypatch.setenv(SINCE_VARIABLE, "2026-11-21T12:00:00Z")
    forced = Forced.begun_now(["train"], [f"./{PAGE.outputs[0]}"])
    forced.to_environment(environment)
    assert Forced.from_environment(environment) == forced
    assert forced.since < time.time() - 1
    assert forced.includes(PAGE)
    assert forced.includes(make_cell("train", "small", "ecc", 0))
    assert not forced.includes(make_cell("table", "small"))


@pytest.mark.slow
def test_a_renamed_configuration_file_triggers_nothing(folder):
    """Snakemake compares parameters of rules, of which the file's name is one."""
    run_snakemake(folder, "-R", "table", "tables")
    (folder / "config.yaml").rename(folder / "my other config.yaml")
    shown = run_snakemake(folder, "-n", "tables", "--configfile", "my other config.yaml")
    assert re.search("Nothing to be done", shown.stderr)
