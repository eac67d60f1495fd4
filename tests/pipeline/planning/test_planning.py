"""Exactly what is stale: each edit against the cells that the plan says must be made again."""

from __future__ import annotations

import copy
import os
import re
import shutil
import time

import pytest

from gauntlet.config import Cell
from gauntlet.core.errors import GauntletError
from gauntlet.pipeline import fingerprint, paths
from gauntlet.pipeline.staleness import State, require_current_inputs
from tests.support import ROOT
from tests.support.stub_outputs import CONFIG, finish_cell, finish_cells, plan_in, write_config

E = "small"

OF_MODELS = ("train", "evaluate", "certify", "diagnose", "inspect")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a finished run in it, which is the current one."""
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, CONFIG)
    finish_cells(tmp_path)
    return tmp_path


def unfinished(folder):
    """Say which cells a run would make: stage, variant, seed, name."""
    return {(cell.stage, cell.variant, cell.seed, cell.name) for cell in plan_in(folder).unfinished()}


def changed(folder, edit):
    """Apply an edit to a copy of the configuration and write it."""
    config = copy.deepcopy(CONFIG)
    edit(config["experiments"][E], config)
    write_config(folder, config)


INSPECTED = ["activation_functions", "first_layer_filters", "image_transition", "unit_patterns"]


def downstream(cells, *, all_figures=False):
    """Add what hangs on any cell: aggregation, figures, tables, the page.

    Training curves hang on the models alone, and the figures of inspected models on the inspections.
    """
    figures = ["adversarial_examples", "certificate_distance", "certified_accuracy", "confidence", "coverage"]
    figures += ["diagnostics_matrix", "heat_map", "paired_budgets", "robust_accuracy"]
    if all_figures or any(cell[0] == "train" for cell in cells):
        figures.append("training_curves")
    if all_figures or any(cell[0] == "inspect" for cell in cells):
        figures += INSPECTED
    ends = {(stage, "", 0, "") for stage in ("aggregate", "table", "report")} | {
        *(("figure", "", 0, figure) for figure in figures)
    }
    return set(cells) | ends


def every(stage, **ids):
    """List the cells of a stage with given ids, in the small experiment."""
    variants = [ids["variant"]] if "variant" in ids else ["softmax", "ecc", "lipschitz"]
    names = {"certify": ["lipschitz"], "evaluate": ["fgsm", "pgd", "ddn", "noise"]}.get(stage, [""])
    names = [ids["name"]] if "name" in ids else names
    seeds = (0,) if stage == "inspect" else (0, 1)
    if stage == "certify":
        variants = [variant for variant in variants if variant == "lipschitz"]
    return {(stage, variant, seed, name) for variant in variants for seed in seeds for name in names}


def of_variant(variant):
    """List the cells of a variant without certificates: its models and what is measured on them."""
    return {cell for stage in OF_MODELS if stage != "certify" for cell in every(stage, variant=variant)}


def test_nothing_is_stale_after_a_run(folder):
    """The word "nothing" is meant."""
    assert unfinished(folder) == set()


def test_time_stamps_do_not_count(folder):
    """Touching any file, in any order, changes nothing."""
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (time.time(), time.time()))
    assert unfinished(folder) == set()


def test_results_copied_elsewhere_are_as_good(folder, tmp_path_factory, monkeypatch):
    """Nothing depends on where a run lies, or on records outside its files."""
    other = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(folder, other, copy_function=shutil.copyfile)
    monkeypatch.chdir(other)
    assert unfinished(other) == set()


def test_a_hyperparameter_of_one_variant(folder):
    """That variant's models, what was measured on them, and what is made of all."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(training={"epochs": 2}))
    assert unfinished(folder) == downstream(of_variant("ecc"))


def test_a_hyperparameter_of_all_variants_that_one_overrides(folder):
    """A key that a variant sets itself is not changed for it by the experiment's."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(training={"epochs": 1}))
    assert unfinished(folder) == set()
    finish_cells(folder)
    config = copy.deepcopy(CONFIG)
    config["experiments"][E]["variants"]["ecc"]["training"] = {"epochs": 1}
    config["experiments"][E]["training"]["epochs"] = 2
    write_config(folder, config)
    assert ("train", "ecc", 0, "") not in unfinished(folder)
    assert every("train", variant="softmax") <= unfinished(folder)


def test_a_new_seed(folder):
    """The new cells, and what is made of all."""
    changed(folder, lambda one, _: one.update(seeds=[0, 1, 2]))
    assert {cell for cell in unfinished(folder) if cell[0] in OF_MODELS and cell[2] != 2} == set()
    assert unfinished(folder).isdisjoint(("figure", "", 0, figure) for figure in INSPECTED)
    assert unfinished(folder) >= downstream({("train", "ecc", 2, ""), ("certify", "lipschitz", 2, "lipschitz")})


def test_a_new_variant(folder):
    """The new variant's cells, and what is made of all."""
    changed(folder, lambda one, _: one["variants"].update(wide={"model": {"name": "cnn", "widths": [64]}}))
    assert unfinished(folder) == downstream(of_variant("wide"))


def test_a_removed_variant(folder):
    """Nothing but what is made of all."""
    changed(folder, lambda one, _: one["variants"].pop("ecc"))
    assert unfinished(folder) == downstream(set(), all_figures=True)


def test_a_new_attack_and_a_new_epsilon(folder):
    """The cells of that attack, the probes where a norm has other budgets than before, and what is made of all."""
    changed(folder, lambda one, _: one["attacks"].update(bim={"name": "bim", "norm": "l2", "epsilons": [0.5]}))
    assert unfinished(folder) == downstream(every("evaluate", name="bim"))
    changed(folder, lambda one, _: one["attacks"].update(bim={"name": "bim", "norm": "l2", "epsilons": [1.0]}))
    assert unfinished(folder) == downstream(every("evaluate", name="bim") | every("diagnose"))
    changed(folder, lambda one, _: one["attacks"]["pgd"].update(epsilons=[0.1, 0.2]))
    assert unfinished(folder) == downstream(every("evaluate", name="pgd"))


@pytest.mark.parametrize("execution", [{"device": "cpu"}, {"attack_batch_size": 7}, {"precision": "float32"}])
def test_execution_settings_do_not_count(folder, execution):
    """How and where work is done decides no result."""
    changed(folder, lambda _, config: config.update(execution=execution))
    assert unfinished(folder) == set()


def test_spelling_does_not_count(folder):
    """Key order, short forms and defaults written out are the same configuration."""

    def edit(one, _):
        one["variants"]["softmax"] = {"loss": {"name": "cross_entropy"}, "model": {"head": "softmax", "name": "cnn"}}
        one["attacks"]["pgd"] = dict(reversed(one["attacks"]["pgd"].items())) | {"restarts": 1, "seed": 0}

    changed(folder, edit)
    assert unfinished(folder) == set()


def test_two_values_swapped_count(folder):
    """Snakemake compares parameters as a set of values; the strings do not."""

    def edit(one, _):
        one["attacks"]["fgsm"]["epsilons"], one["attacks"]["pgd"]["epsilons"] = [0.1], [0.1, 0.2]

    changed(folder, edit)
    assert unfinished(folder) == downstream(every("evaluate", name="fgsm") | every("evaluate", name="pgd"))


def test_a_transfer_hangs_on_the_models_it_comes_from(folder):
    """It is not run on the variant it comes from; it is stale when that variant is."""

    def transfer(one, _):
        one["attacks"]["transfer"] = {"name": "pgd", "norm": "linf", "epsilons": [0.1], "transfer_from": "ecc"}

    changed(folder, transfer)
    cells = every("evaluate", name="transfer") - every("evaluate", name="transfer", variant="ecc")
    cells |= {("figure", "", 0, "transfer_matrix")}
    assert unfinished(folder) == downstream(cells)
    finish_cells(folder)
    changed(folder, lambda one, _: (transfer(one, _), one["variants"]["ecc"].update(training={"epochs": 2})))
    assert unfinished(folder) == downstream(of_variant("ecc") | cells)


def test_a_title_is_in_every_figure(folder):
    """Training curves read no results that carry it, and the headline is in none of theirs."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(title="ECC"))
    assert unfinished(folder) == downstream(set(), all_figures=True)
    changed(folder, lambda one, _: one.update(headline={"linf": [0.1]}))
    assert unfinished(folder) == downstream(set())


def test_a_figure_that_has_nothing_to_show_is_no_cell(folder):
    """One variant is no pair, and without transfers there is no matrix of them."""
    assert ("paired_budgets" in plan_in(folder).figures(E), "transfer_matrix" in plan_in(folder).figures(E)) == (1, 0)
    changed(folder, lambda one, _: one.update(variants={"softmax": {"model": "cnn"}}, certificates={}))
    assert "paired_budgets" not in plan_in(folder).figures(E)


def test_negatives_decide_the_inspection_of_what_trains_on_them(folder, monkeypatch):
    """Their figure is a cell where a variant has any; their module makes that variant's cells stale, no other's."""
    sigmoid = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    changed(folder, lambda one, _: one["variants"].update(ecc={**sigmoid, "training": {"negatives": "overlay"}}))
    assert "negative_examples" in plan_in(folder).figures(E)
    finish_cells(folder)
    pretend_edit(monkeypatch, "gauntlet.learning.data.negatives.overlay")
    drawn = {("figure", "", 0, "negative_examples")}
    assert unfinished(folder) == downstream(of_variant("ecc") | drawn)


@pytest.mark.parametrize(
    "change", [{"negatives": {"name": "overlay", "share": 0.5}}, {"batch_size": 7}, {"augmentation": ["flip"]}]
)
def test_what_decides_the_negatives_decides_their_inspection(folder, change):
    """Also where the weights would turn out the same."""
    sigmoid = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    cell, recipes = Cell("inspect", E, "ecc", 0), []
    for training in ({"negatives": "overlay"}, {"negatives": "overlay", **change}):
        changed(folder, lambda one, _, own=training: one["variants"].update(ecc={**sigmoid, "training": own}))
        recipes.append(plan_in(folder).outline(cell))
    assert recipes[0].slice != recipes[1].slice


def test_nothing_else_decides_an_inspection(folder):
    """Neither attacks nor the number of samples."""
    changed(folder, lambda one, _: one.update(samples=50))
    assert not any(cell[0] == "inspect" for cell in unfinished(folder))


@pytest.mark.parametrize("change", [{"samples": 50}, {"steps": 7}])
def test_an_option_of_the_diagnostics(folder, change):
    """The probes alone, and what is made of all."""
    changed(folder, lambda one, _: one.update(diagnostics=change))
    assert unfinished(folder) == downstream(every("diagnose"))


def test_without_diagnostics_or_attacks_nothing_is_probed(folder):
    """What is made of all changes, no cell of a model does; and an experiment without attacks has no probes."""
    changed(folder, lambda one, _: one.update(diagnostics={"enabled": False}))
    assert unfinished(folder) == downstream(set())
    assert not any(cell.stage == "diagnose" for cell in plan_in(folder).cells())
    changed(folder, lambda one, _: one.pop("attacks"))
    assert not any(cell.stage == "diagnose" for cell in plan_in(folder).cells())


def test_a_renamed_attack_is_a_new_column(folder):
    """Names stand in the rows, so a renamed attack is made anew."""
    changed(folder, lambda one, _: one["attacks"].update(pgd3=one["attacks"].pop("pgd")))
    assert unfinished(folder) == downstream(every("evaluate", name="pgd3"))


MEASURED = every("evaluate") | every("certify") | every("diagnose") | every("inspect")
LIPSCHITZ = {cell for cell in every("train") | MEASURED if cell[1] == "lipschitz"}


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("gauntlet.robustness.attacks.noise", every("evaluate", name="noise")),
        ("gauntlet.robustness.attacks.adapters.foolbox", every("evaluate", name="ddn")),
        ("gauntlet.robustness.evaluation.evaluator", MEASURED),
        (
            "gauntlet.robustness.attacks.pgd",
            every("evaluate", name="fgsm") | every("evaluate", name="pgd") | every("diagnose"),
        ),
        ("gauntlet.robustness.diagnostics.plain_pgd", every("diagnose")),
        ("gauntlet.robustness.diagnostics.checks", set()),
        ("gauntlet.learning.models.lipschitz_cnn", LIPSCHITZ),
        ("gauntlet.robustness.certificates.lipschitz", every("certify")),
        ("gauntlet.reporting.aggregation.summary", set()),
        ("gauntlet.learning.training.loop", every("train") | MEASURED),
    ],
)  # fmt: skip
def test_an_edit_of_a_module(folder, monkeypatch, module, stale):
    """The cells whose code reaches the module, what hangs on them, and nothing else."""
    pretend_edit(monkeypatch, module)
    found = unfinished(folder)
    cells = {cell for cell in found if cell[0] in ("prepare", *OF_MODELS)}
    if module == "gauntlet.robustness.evaluation.evaluator":
        stale = every("evaluate") | every("diagnose")
        cells = {cell for cell in cells if cell[0] != "certify"}
    assert cells == stale
    assert found == downstream(found)


@pytest.mark.parametrize("key", ["adversary", "validation_adversary"])
def test_an_adversary_decides_the_variants_that_train_against_it(folder, monkeypatch, key):
    """Its options and its module make stale what it trains, and nothing else."""
    adversary = {"name": "trades", "epsilon": 0.1}
    ours = {cell for cell in every("train") | MEASURED if cell[1] == "softmax"}
    changed(folder, lambda one, _: one["variants"]["softmax"].update(training={key: adversary}))
    assert unfinished(folder) == downstream(ours)
    finish_cells(folder)
    assert unfinished(folder) == set()
    changed(folder, lambda one, _: one["variants"]["softmax"].update(training={key: {**adversary, "beta": 1.0}}))
    assert unfinished(folder) == downstream(ours)
    changed(folder, lambda one, _: one["variants"]["softmax"].update(training={key: adversary}))
    for module, stale in (("gaussian", set()), ("trades", downstream(ours))):
        with monkeypatch.context() as edited:
            pretend_edit(edited, f"gauntlet.learning.training.adversaries.{module}")
            assert unfinished(folder) == stale


def test_an_edit_of_one_figure(folder, monkeypatch):
    """That figure, and the page that shows it."""
    pretend_edit(monkeypatch, "gauntlet.reporting.figures.heat_map")
    assert unfinished(folder) == {("figure", "", 0, "heat_map"), ("report", "", 0, "")}


def test_an_edit_of_inspection(folder, monkeypatch):
    """What it shows, the figures of that, and the page: no table hangs on it."""
    pretend_edit(monkeypatch, "gauntlet.robustness.inspection.first_layer")
    drawn = {("figure", "", 0, figure) for figure in INSPECTED}
    assert unfinished(folder) == every("inspect") | drawn | {("report", "", 0, "")}


@pytest.mark.parametrize(
    "module", ["gauntlet.cli", "gauntlet.pipeline.paths", "gauntlet.pipeline.staleness", "gauntlet.core.errors"]
)
def test_an_edit_of_what_decides_no_bytes(folder, monkeypatch, module):
    """Modules that decide where and whether work is done make nothing stale."""
    pretend_edit(monkeypatch, module)
    assert unfinished(folder) == set()


def pretend_edit(monkeypatch, module):
    """Let a module's hash be another one."""
    real = fingerprint.module_hash
    fingerprint.imported(module)
    monkeypatch.setattr(fingerprint, "module_hash", lambda name: "edited" if name == module else real(name))
    fingerprint._fingerprint.cache_clear()
    monkeypatch.setattr(fingerprint, "_fingerprint", fingerprint._fingerprint.__wrapped__)


def test_the_same_data_again_changes_nothing_downstream(folder):
    """A data set prepared again to the same bytes has the same digest, and that is all that counts."""
    data = next(cell for cell in plan_in(folder).cells() if cell.stage == "prepare")
    for path in paths.products(data):
        path.unlink()
    assert ("prepare", "", 0, data.name) in unfinished(folder)
    finish_cell(plan_in(folder), data)
    assert unfinished(folder) == set()
    finish_cell(plan_in(folder), data, "other pixels")
    assert every("train") | every("evaluate") <= unfinished(folder)


def test_the_same_model_again_changes_nothing_downstream(folder):
    """A model trained again to the same weights keeps everything that was measured on it; other weights do not."""
    model = Cell("train", E, "ecc", 0)
    finish_cell(plan_in(folder), model)
    assert unfinished(folder) == set()
    finish_cell(plan_in(folder), model, "other weights")
    measured = {cell for cell in MEASURED if cell[1:3] == ("ecc", 0)}
    assert unfinished(folder) == downstream(measured, all_figures=True)


def test_a_deleted_file_is_made_again_with_what_hangs_on_it(folder):
    """Each file of each cell counts, not only the first."""
    for cell in list(plan_in(folder).cells()):
        for path in paths.products(cell):
            content = path.read_bytes()
            path.unlink()
            assert plan_in(folder).state(cell) is State.MISSING, path
            path.write_bytes(content)
    assert unfinished(folder) == set()


def test_an_interrupted_run_and_then_another_edit(folder):
    """After a partial run of one edit, reverting it leaves exactly what that run made to be made again."""
    changed(folder, lambda one, _: one["attacks"]["pgd"].update(steps=4))
    finish_cells(folder, only=[Cell("evaluate", E, "ecc", 0, "pgd"), Cell("evaluate", E, "ecc", 1, "pgd")])
    write_config(folder, CONFIG)
    assert unfinished(folder) == downstream({("evaluate", "ecc", 0, "pgd"), ("evaluate", "ecc", 1, "pgd")})


def test_a_stage_that_lacks_its_input_says_which_and_what_makes_it(folder):
    """Running a stage by hand too early gives one line."""
    model = Cell("train", E, "ecc", 0)
    paths.model_manifest(model).unlink()
    with pytest.raises(GauntletError, match=r"evaluate small .* needs .*manifest\.json; run `gauntlet train`"):
        require_current_inputs(plan_in(folder), Cell("evaluate", E, "ecc", 0, "pgd"))


def test_in_a_job_every_rule_runs_where_the_job_is():
    """One left out would start another Snakemake in a step of its own, which a cluster may refuse."""
    texts = [file.read_text() for file in (ROOT / "rules").glob("*.smk")]
    rules = {name for text in texts for name in re.findall(r"^rule (\w+):", text, re.MULTILINE)}
    block = (ROOT / "workflow" / "Snakefile").read_text().partition("    localrules:\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^ {8}(\w+),$", block, re.MULTILINE)) == rules
