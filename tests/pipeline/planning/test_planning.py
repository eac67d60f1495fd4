"""Staleness: each edit against the cells that the staleness would make again."""

from __future__ import annotations

import copy
import os
import shutil
import time

import pytest

from gauntlet.core.errors import GauntletError
from gauntlet.pipeline import fingerprint, paths
from gauntlet.pipeline.staleness import State
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, finish_cell, finish_cells, staleness_in, write_config

E = "small"

OF_MODELS = ("train", "evaluate", "certify", "diagnose", "inspect")


@pytest.fixture
def folder(stub_folder):
    """A folder with a finished run, which is the current one."""
    return stub_folder


def unfinished(folder):
    """Return the cells that a run would make: stage, variant, seed, name."""
    return {(cell.stage.name, cell.variant, cell.seed, cell.name) for cell in staleness_in(folder).unfinished()}


def changed(folder, edit):
    """Write an edited copy of the configuration."""
    config = copy.deepcopy(CONFIG)
    edit(config["experiments"][E], config)
    write_config(folder, config)


INSPECTED = ["activation_functions", "first_layer_filters", "image_plane", "image_transition", "leaky_activations"]
INSPECTED += ["unit_patches", "unit_patterns"]


def downstream(cells, *, all_figures=False):
    """Add the cells that depend on any cell: aggregation, figures, tables, the page.

    Training curves depend on models only, and figures of inspected models on inspections.
    """
    figures = ["adversarial_examples", "certificate_distance", "certified_accuracy", "class_examples"]
    figures += ["confidence", "coverage"]
    figures += ["diagnostics_matrix", "heat_map", "paired_budgets", "prediction_bars", "robust_accuracy"]
    if all_figures or any(cell[0] == "train" for cell in cells):
        figures.append("training_curves")
    if all_figures or any(cell[0] == "inspect" for cell in cells):
        figures += INSPECTED
    ends = {(stage, "", 0, "") for stage in ("aggregate", "table", "report")} | {
        *(("figure", "", 0, figure) for figure in figures)
    }
    return set(cells) | ends


def figures_in(folder):
    """List the figures of the small experiment."""
    return [cell.name for cell in staleness_in(folder).graph.cells_of(E) if cell.stage.name == "figure"]


def every(stage, **ids):
    """List the cells of a stage with given ids in the small experiment."""
    variants = [ids["variant"]] if "variant" in ids else ["softmax", "ecc", "lipschitz"]
    names = {"certify": ["lipschitz"], "evaluate": ["fgsm", "pgd", "ddn", "noise"]}.get(stage, [""])
    names = [ids["name"]] if "name" in ids else names
    seeds = (0,) if stage == "inspect" else (0, 1)
    if stage == "certify":
        variants = [variant for variant in variants if variant == "lipschitz"]
    return {(stage, variant, seed, name) for variant in variants for seed in seeds for name in names}


def of_variant(variant):
    """List the cells of a variant without certificates: its models and their evaluations and diagnostics."""
    return {cell for stage in OF_MODELS if stage != "certify" for cell in every(stage, variant=variant)}


def test_a_finished_run_has_no_stale_cell(folder):
    """A finished run has no stale cell."""
    assert unfinished(folder) == set()


def test_time_stamps_do_not_count(folder):
    """Touching files in any order makes no cell stale."""
    for path in sorted(folder.rglob("*"), reverse=True):
        os.utime(path, (time.time(), time.time()))
    assert unfinished(folder) == set()


def test_copied_results_are_current(folder, tmp_path_factory, monkeypatch):
    """Staleness depends neither on the folder nor on records outside the files."""
    other = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(folder, other, copy_function=shutil.copyfile)
    monkeypatch.chdir(other)
    assert unfinished(other) == set()


def test_a_hyperparameter_of_one_variant(folder):
    """It makes the variant's models, their measurements, and the results stale."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(training={"epochs": 2}))
    assert unfinished(folder) == downstream(of_variant("ecc"))


def test_the_precision_of_training_is_part_of_the_recipe(folder):
    """A model of another precision is stale, like one with any other hyperparameter; the default may be written out."""
    changed(folder, lambda one, _: one["training"].update(precision="float32"))
    assert unfinished(folder) == set()
    changed(folder, lambda one, _: one["variants"]["ecc"].update(training={"precision": "bfloat16"}))
    assert unfinished(folder) == downstream(of_variant("ecc"))


def test_a_hyperparameter_of_all_variants_that_one_overrides(folder):
    """A key that a variant overrides does not change for it."""
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
    """The new cells and the results are stale."""
    changed(folder, lambda one, _: one.update(seeds=[0, 1, 2]))
    assert {cell for cell in unfinished(folder) if cell[0] in OF_MODELS and cell[2] != 2} == set()
    assert unfinished(folder).isdisjoint(("figure", "", 0, figure) for figure in INSPECTED)
    assert unfinished(folder) >= downstream({("train", "ecc", 2, ""), ("certify", "lipschitz", 2, "lipschitz")})


def test_a_new_variant(folder):
    """The new variant's cells and the results are stale."""
    changed(folder, lambda one, _: one["variants"].update(wide={"model": {"name": "cnn", "widths": [64]}}))
    assert unfinished(folder) == downstream(of_variant("wide"))


def test_a_removed_variant(folder):
    """Only the results are stale."""
    changed(folder, lambda one, _: one["variants"].pop("ecc"))
    assert unfinished(folder) == downstream(set(), all_figures=True)


def test_a_new_attack_and_a_new_epsilon(folder):
    """The attack's cells, probes of norms with other budgets, and the results are stale."""
    changed(folder, lambda one, _: one["attacks"].update(bim={"name": "bim", "norm": "l2", "epsilons": [0.5]}))
    assert unfinished(folder) == downstream(every("evaluate", name="bim"))
    changed(folder, lambda one, _: one["attacks"].update(bim={"name": "bim", "norm": "l2", "epsilons": [1.0]}))
    assert unfinished(folder) == downstream(every("evaluate", name="bim") | every("diagnose"))
    changed(folder, lambda one, _: one["attacks"]["pgd"].update(epsilons=[0.1, 0.2]))
    assert unfinished(folder) == downstream(every("evaluate", name="pgd"))


@pytest.mark.parametrize("execution", [{"device": "cpu"}, {"attack_batch_size": 7}, {"precision": "float32"}])
def test_execution_settings_do_not_count(folder, execution):
    """Execution settings make no cell stale."""
    changed(folder, lambda _, config: config.update(execution=execution))
    assert unfinished(folder) == set()


def test_spelling_does_not_count(folder):
    """Key order, short forms and explicit defaults make no cell stale."""

    def edit(one, _):
        one["variants"]["softmax"] = {"loss": {"name": "cross_entropy"}, "model": {"head": "softmax", "name": "cnn"}}
        one["attacks"]["pgd"] = dict(reversed(one["attacks"]["pgd"].items())) | {"restarts": 1, "seed": 0}

    changed(folder, edit)
    assert unfinished(folder) == set()


def test_two_values_swapped_count(folder):
    """Swapped values make cells stale, though Snakemake compares parameters as a set."""

    def edit(one, _):
        one["attacks"]["fgsm"]["epsilons"], one["attacks"]["pgd"]["epsilons"] = [0.1], [0.1, 0.2]

    changed(folder, edit)
    assert unfinished(folder) == downstream(every("evaluate", name="fgsm") | every("evaluate", name="pgd"))


def test_a_transfer_depends_on_its_source_models(folder):
    """It is not run on its source, and is stale if the source is."""

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
    """A title makes every figure stale but training curves, which show none."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(title="ECC"))
    assert unfinished(folder) == downstream(set(), all_figures=True)
    changed(folder, lambda one, _: one.update(headline={"linf": [0.1]}))
    assert unfinished(folder) == downstream(set())


def test_a_figure_that_has_nothing_to_show_is_no_cell(folder):
    """One variant has no paired figure, and no transfer no transfer matrix."""
    assert ("paired_budgets" in figures_in(folder), "transfer_matrix" in figures_in(folder)) == (1, 0)
    changed(folder, lambda one, _: one.update(variants={"softmax": {"model": "cnn"}}, certificates={}))
    assert "paired_budgets" not in figures_in(folder)


def test_negatives_decide_the_inspection_of_their_variants(folder, monkeypatch):
    """Their figure and their module concern variants with negatives only."""
    sigmoid = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    changed(folder, lambda one, _: one["variants"].update(ecc={**sigmoid, "training": {"negatives": "overlay"}}))
    assert "negative_examples" in figures_in(folder)
    finish_cells(folder)
    change_module_hash(monkeypatch, "gauntlet.learning.data.negatives.overlay")
    drawn = {("figure", "", 0, "negative_examples")}
    assert unfinished(folder) == downstream(of_variant("ecc") | drawn)


@pytest.mark.parametrize(
    "change", [{"negatives": {"name": "overlay", "share": 0.5}}, {"batch_size": 7}, {"augmentation": ["flip"]}]
)
def test_settings_of_negatives_decide_their_inspection(folder, change):
    """This holds even if the weights would be equal."""
    sigmoid = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce"}
    cell, recipes = make_cell("inspect", E, "ecc", 0), []
    for training in ({"negatives": "overlay"}, {"negatives": "overlay", **change}):
        changed(folder, lambda one, _, own=training: one["variants"].update(ecc={**sigmoid, "training": own}))
        recipes.append(staleness_in(folder).outline(cell))
    assert recipes[0].slice != recipes[1].slice


def test_attacks_and_samples_do_not_decide_an_inspection(folder):
    """Inspections stay current if attacks or the number of samples change."""
    changed(folder, lambda one, _: one.update(samples=50))
    assert not any(cell[0] == "inspect" for cell in unfinished(folder))


@pytest.mark.parametrize("change", [{"samples": 50}, {"steps": 7}])
def test_an_option_of_the_diagnostics(folder, change):
    """The probes and the results are stale."""
    changed(folder, lambda one, _: one.update(diagnostics=change))
    assert unfinished(folder) == downstream(every("diagnose"))


def test_without_diagnostics_or_attacks_nothing_is_probed(folder):
    """Turning diagnostics off makes only results stale; without attacks there are no probes."""
    changed(folder, lambda one, _: one.update(diagnostics={"enabled": False}))
    assert unfinished(folder) == downstream(set())
    assert not any(cell.stage.name == "diagnose" for cell in staleness_in(folder).graph.cells())
    changed(folder, lambda one, _: one.pop("attacks"))
    assert not any(cell.stage.name == "diagnose" for cell in staleness_in(folder).graph.cells())


def test_a_renamed_attack_is_run_again(folder):
    """Its name is in the rows."""
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
    """The cells whose code imports the module, and those that depend on them, are stale."""
    change_module_hash(monkeypatch, module)
    found = unfinished(folder)
    cells = {cell for cell in found if cell[0] in ("prepare", *OF_MODELS)}
    if module == "gauntlet.robustness.evaluation.evaluator":
        stale = every("evaluate") | every("diagnose")
        cells = {cell for cell in cells if cell[0] != "certify"}
    assert cells == stale
    assert found == downstream(found)


@pytest.mark.parametrize("key", ["adversary", "validation_adversary"])
def test_an_adversary_decides_the_variants_that_train_against_it(folder, monkeypatch, key):
    """Its options and module make these variants stale only."""
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
            change_module_hash(edited, f"gauntlet.learning.training.adversaries.{module}")
            assert unfinished(folder) == stale


def test_an_edit_of_one_figure(folder, monkeypatch):
    """The figure and the page are stale."""
    change_module_hash(monkeypatch, "gauntlet.reporting.figures.heat_map")
    assert unfinished(folder) == {("figure", "", 0, "heat_map"), ("report", "", 0, "")}


def test_the_code_that_prepares_data_decides_nothing_else(folder):
    """Stored images are read by other modules: data that are made again, and are equal, leave the rest as it is."""
    staleness, own = staleness_in(folder), {"decoding", "encoded", "reading", "selection", "sources", "store"}
    for cell in staleness.graph.cells():
        names = {tuple(name.split(".")) for name in staleness.outline(cell).modules}
        found = {name[3] for name in names if name[:3] == ("gauntlet", "learning", "data") and len(name) > 3} & own
        assert found == (own if cell.stage.name == "prepare" else set()), cell


def test_an_edit_of_inspection(folder, monkeypatch):
    """Inspections, their figures and the page are stale, and no table."""
    change_module_hash(monkeypatch, "gauntlet.robustness.inspection.first_layer")
    drawn = {("figure", "", 0, figure) for figure in INSPECTED}
    assert unfinished(folder) == every("inspect") | drawn | {("report", "", 0, "")}


@pytest.mark.parametrize(
    "module",
    [
        "gauntlet.cli",
        "gauntlet.pipeline.paths",
        "gauntlet.pipeline.staleness",
        "gauntlet.pipeline.stages.train.declaration",
        "gauntlet.core.errors",
    ],
)
def test_an_edit_of_planning_modules(folder, monkeypatch, module):
    """Modules that decide only where and whether cells run make no cell stale."""
    change_module_hash(monkeypatch, module)
    assert unfinished(folder) == set()


def change_module_hash(monkeypatch, module):
    """Change the hash of a module."""
    real = fingerprint.module_hash
    fingerprint.imported(module)
    monkeypatch.setattr(fingerprint, "module_hash", lambda name: "edited" if name == module else real(name))
    fingerprint._fingerprint.cache_clear()
    monkeypatch.setattr(fingerprint, "_fingerprint", fingerprint._fingerprint.__wrapped__)


def test_the_same_data_again_changes_nothing_downstream(folder):
    """Data prepared again to the same bytes make no other cell stale."""
    data = next(cell for cell in staleness_in(folder).graph.cells() if cell.stage.name == "prepare")
    for path in data.outputs:
        path.unlink()
    assert ("prepare", "", 0, data.name) in unfinished(folder)
    finish_cell(staleness_in(folder), data)
    assert unfinished(folder) == set()
    finish_cell(staleness_in(folder), data, "other pixels")
    assert every("train") | every("evaluate") <= unfinished(folder)


def test_the_same_model_again_changes_nothing_downstream(folder):
    """A model trained again to the same weights makes no other cell stale; other weights do."""
    model = make_cell("train", E, "ecc", 0)
    finish_cell(staleness_in(folder), model)
    assert unfinished(folder) == set()
    finish_cell(staleness_in(folder), model, "other weights")
    measured = {cell for cell in MEASURED if cell[1:3] == ("ecc", 0)}
    assert unfinished(folder) == downstream(measured, all_figures=True)


def models_again(folder):
    """Make the models that are not current, with the weights that they had."""
    staleness = staleness_in(folder)
    finish_cells(folder, only=[cell for cell in staleness.unfinished() if cell.stage.name == "train"])


@pytest.mark.parametrize(
    "edit",
    [
        {"model": {"name": "cnn", "head": {"name": "ecc", "max_probability": 0.9}}},
        {"model": {"name": "cnn", "head": {"name": "ecc", "power": 2.0}}},
        {"normalize": {"mean": 0.4, "std": 0.2}},
        {"normalize": "none"},
    ],
    ids=["probability", "power", "statistics", "none"],
)
def test_an_option_of_the_network_counts_even_if_the_weights_are_equal(folder, edit):
    """No training step computes with an option of the decoder, and yet the network gives other logits."""
    changed(folder, lambda one, _: one["variants"]["ecc"].update(edit))
    models_again(folder)
    assert unfinished(folder) == downstream({cell for cell in MEASURED if cell[1] == "ecc"})
    finish_cells(folder)
    assert unfinished(folder) == set()
    write_config(folder, CONFIG)
    models_again(folder)
    assert unfinished(folder) == downstream({cell for cell in MEASURED if cell[1] == "ecc"})


def test_an_option_of_a_source_of_a_transfer_counts_even_if_its_weights_are_equal(folder):
    """The attack takes the gradients of the source."""

    def transferred(one, _):
        one["attacks"]["transfer"] = {"name": "fgsm", "norm": "linf", "epsilons": [0.1], "transfer_from": ["ecc"]}

    def decoded(one, _):
        transferred(one, _)
        one["variants"]["ecc"]["model"] = {"name": "cnn", "head": {"name": "ecc", "power": 2.0}}

    changed(folder, transferred)
    finish_cells(folder)
    changed(folder, decoded)
    models_again(folder)
    stale = {cell[1] for cell in unfinished(folder) if cell[0] == "evaluate" and cell[3] == "transfer"}
    assert stale == {"softmax", "lipschitz"}


def test_the_stated_loss_of_an_adopted_network_counts_for_attacks_that_ascend_it(folder):
    """The weights do not depend on it."""
    for name in ("a.pt", "b.pt"):
        (folder / name).write_bytes(b"weights")

    def adopted(loss):
        def edit(one, _):
            one["variants"]["known"] = {"model": "cnn", "weights": ["a.pt", "b.pt"], "loss": loss}
            one["attacks"]["own"] = {"name": "fgsm", "norm": "linf", "epsilons": [0.1], "loss": "training"}

        return edit

    changed(folder, adopted({"name": "lse_hkr", "alpha": 0.9}))
    finish_cells(folder)
    changed(folder, adopted({"name": "lse_hkr", "alpha": 0.5}))
    models_again(folder)
    stale = {cell for cell in unfinished(folder) if cell[0] in OF_MODELS}
    assert stale == {("evaluate", "known", seed, "own") for seed in (0, 1)}


def test_a_deleted_file_is_made_again_with_its_dependents(folder):
    """This holds for each file of each cell."""
    for cell in list(staleness_in(folder).graph.cells()):
        for path in cell.outputs:
            content = path.read_bytes()
            path.unlink()
            assert staleness_in(folder).state(cell) is State.MISSING, path
            path.write_bytes(content)
    assert unfinished(folder) == set()


def test_an_interrupted_run_and_then_another_edit(folder):
    """After a partial run and a reverted edit, exactly the cells of that run are stale."""
    changed(folder, lambda one, _: one["attacks"]["pgd"].update(steps=4))
    finish_cells(folder, only=[make_cell("evaluate", E, "ecc", 0, "pgd"), make_cell("evaluate", E, "ecc", 1, "pgd")])
    write_config(folder, CONFIG)
    assert unfinished(folder) == downstream({("evaluate", "ecc", 0, "pgd"), ("evaluate", "ecc", 1, "pgd")})


def test_a_stage_without_its_input_names_it_and_its_command(folder):
    """The error is one line."""
    model = make_cell("train", E, "ecc", 0)
    paths.model_manifest(model).unlink()
    with pytest.raises(GauntletError, match=r"evaluate small .* needs .*manifest\.json; run `gauntlet train`"):
        staleness_in(folder).job(make_cell("evaluate", E, "ecc", 0, "pgd"))
