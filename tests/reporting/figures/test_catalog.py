"""The figures of an experiment: one definition and one order for graph, results folder, page and docs."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.pipeline import paths
from gauntlet.registry import FIGURES
from gauntlet.reporting.aggregation import EFFECTS_SCHEMA, design_from_config
from gauntlet.reporting.aggregation.summary import SUMMARY_SCHEMA
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.catalog import FEATURES, TABLES, TOUR, figure_names, tour_order
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.robustness.diagnostics.checks import DIAGNOSTICS_SCHEMA
from gauntlet.robustness.inspection.arrays import array_table
from tests.support import ROOT, synthetic
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, staleness_in, write_config

DOCS = ROOT / "docs"
NOT_IN_TOUR = {"factor_effects", "negative_examples", "unit_fits", "signal_depth"}
SIGMOID = {"model": {"name": "cnn", "head": "sigmoid"}, "loss": "sigmoid_bce", "training": {"negatives": "overlay"}}
GRID = {"axes": {"normalize": ["data", "none"]}, "model": {"name": "cnn"}, "normalize": "{normalize}"}
CASES = {
    "everything but transfers and negatives": lambda one: None,
    "no attacks": lambda one: one.update(attacks={}),
    "no attacks, no certificates": lambda one: one.update(attacks={}, certificates={}),
    "no certificates": lambda one: one.update(certificates={}),
    "one variant": lambda one: one.update(variants={"softmax": {"model": "cnn"}}, certificates={}),
    "transfers": lambda one: one["attacks"]["pgd"].update(transfer_from="softmax"),
    "negatives": lambda one: one["variants"].update(ecc=SIGMOID),
    "layer designs": lambda one: one["variants"].update(ecc={"model": {"name": "mnist_cnn", "activation": "relog"}}),
    "grids": lambda one: one["variants"].update({"cnn_{normalize}": GRID}),
    "layers of the default design": lambda one: one["variants"].update(softmax={"model": "mnist_cnn"}),
}


def write_results(scratch, design, absent):
    """Write the tables of an experiment to the paths of the stages; those of aggregation always exist.

    `absent` has the kinds of arrays that the inspection of each variant does not find.
    """
    if design.attacks:
        made = synthetic.write_experiment(scratch, design, samples=20)
        moved = {made.evaluations: paths.evaluations("small"), made.summary: paths.summary("small")}
        for key, path in made.examples.items():
            moved[path] = paths.examples(make_cell("evaluate", "small", *key))
        for source, target in moved.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    else:
        write_table(paths.evaluations("small"), EVALUATION_SCHEMA.empty_table(), design.metadata())
        write_table(paths.summary("small"), SUMMARY_SCHEMA.empty_table(), design.metadata())
    cells = [make_cell("certify", "small", one, 0, item.name) for item in design.certificates for one in item.variants]
    certified = [synthetic.certificate(cell, samples=20) for cell in cells]
    write_table(paths.certificates("small"), pa.concat_tables([CERTIFICATE_SCHEMA.empty_table(), *certified]), {})
    write_table(paths.diagnostics("small"), DIAGNOSTICS_SCHEMA.empty_table(), {})
    write_table(paths.effects("small"), EFFECTS_SCHEMA.empty_table(), {})
    for variant in design.variants:
        model = make_cell("train", "small", variant, design.seeds[0])
        write_table(paths.history(model), synthetic.history(model), {})
        arrays = [item for item in synthetic.arrays(variant) if item.kind not in absent[variant]]
        table = array_table(arrays, experiment="small", variant=variant, seed=model.seed)
        write_table(paths.inspection(model), table, {})


@pytest.mark.parametrize("case", CASES)
def test_results_have_the_figures_of_their_configuration(case, tmp_path, monkeypatch):
    """The figures that the graph plans are those available in the results folder, in the same order."""
    config = copy.deepcopy(CONFIG)
    CASES[case](config["experiments"]["small"])
    write_config(tmp_path, config)
    monkeypatch.chdir(tmp_path)
    graph = staleness_in(tmp_path).graph
    settings = graph.experiment("small")
    absent = {
        name: [
            *([] if settings.training_of(name).negatives else ["negative"]),
            *([] if variant.model.name == "mnist_cnn" else ["depth", "dots", "logic"]),
        ]
        for name, variant in settings.variants.items()
    }
    write_results(tmp_path / "made", design_from_config("small", settings), absent)
    names = [cell.name for cell in graph.cells() if cell.stage.name == "figure"]
    assert available_figures(find_inputs(paths.evaluations("small"))) == names
    assert names == tour_order(names)


def test_a_quick_form_that_keeps_one_level_plans_no_figure_of_effects(tmp_path, monkeypatch):
    """The grid still has two levels, of which a variant is left of one."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"]["variants"]["cnn_{normalize}"] = GRID
    config["experiments"]["small"]["quick"] = {"variants": {"cnn_none": None}}
    write_config(tmp_path, config)
    monkeypatch.chdir(tmp_path)
    figures = [cell for cell in staleness_in(tmp_path).graph.cells() if cell.stage.name == "figure"]
    with_effects = {cell.experiment for cell in figures if cell.name == "factor_effects"}
    assert {cell.experiment for cell in figures} == {"small", "small_quick"}
    assert with_effects == {"small"}


def test_planning_does_not_load_what_draws():
    """The graph is read at every start of Snakemake, so the catalog must be light."""
    heavy = "{'matplotlib', 'duckdb', 'pyarrow', 'torch'}"
    code = f"import sys, gauntlet.pipeline.staleness; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tags_name_known_tables_and_features():
    """A misspelled tag would hide a figure."""
    for name, entry in FIGURES.catalog.items():
        assert TABLES.issuperset((*entry.tags["reads"], *entry.tags.get("may_read", ()))), name
        assert FEATURES.issuperset(entry.tags.get("needs", ())), name
    assert figure_names(features=FEATURES) == list(TOUR)


def test_every_figure_has_its_place_in_the_order():
    """Every figure is listed in the order."""
    assert sorted(TOUR) == FIGURES.names()
    assert tour_order(["mine:bars", "heat_map", "training_curves"]) == ["training_curves", "heat_map", "mine:bars"]


@pytest.mark.parametrize("page", ["tour.md", "figures.md"])
def test_the_docs_show_figures_in_that_order(page):
    """Docs mention figures in this order; the tour may skip those that the default experiment does not have."""
    text = (DOCS / page).read_text()
    if page == "figures.md":
        text = "".join(re.findall(r"^\| `\w+` \|", text, flags=re.MULTILINE))
    mentioned = list(dict.fromkeys(name for name in re.findall(r"\b\w+\b", text) if name in TOUR))
    assert mentioned == [name for name in TOUR if name in mentioned]
    assert set(TOUR) - set(mentioned) <= (NOT_IN_TOUR if page == "tour.md" else set())
