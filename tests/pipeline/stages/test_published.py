"""The stage `published`: what an edit of published numbers makes stale."""

from __future__ import annotations

import copy

import pytest

from gauntlet.config import load
from gauntlet.pipeline import paths
from gauntlet.pipeline.graph import Graph
from tests.support.cells import make_cell
from tests.support.stub_outputs import CONFIG, finish_cells, staleness_in, write_config

NUMBERS = {"softmax": {"clean": 90, "pgd": 50}, "lipschitz": {"kr": {"value": 1.5, "note": "epoch 100"}}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder, numbers, **keys):
    """Write the small configuration, with published numbers unless they are None."""
    config = copy.deepcopy(CONFIG)
    config["experiments"]["small"] |= keys
    if numbers is not None:
        config["experiments"]["small"]["published"] = {"reference": "A paper", "numbers": copy.deepcopy(numbers)}
    return write_config(folder, config)


def stale_stages(folder):
    """Return the names of the stages that have a cell which is not current."""
    staleness = staleness_in(folder)
    return {cell.stage.name for cell in staleness.graph.cells() if not staleness.is_current(cell)}


def test_published_numbers_make_their_table_and_the_page_stale_and_nothing_else(folder):
    """An edit adds them, changes a value or a note, or removes them."""
    configure(folder, None)
    finish_cells(folder)
    configure(folder, NUMBERS)
    assert stale_stages(folder) == {"published", "report"}
    finish_cells(folder)
    assert stale_stages(folder) == set()
    for edit in ({"clean": 91, "pgd": 50}, {"clean": {"value": 90, "note": "other images"}, "pgd": 50}):
        configure(folder, NUMBERS | {"softmax": edit})
        assert stale_stages(folder) == {"published"}
    configure(folder, None)
    assert stale_stages(folder) == {"report"}


def test_only_an_experiment_with_published_numbers_has_the_table(folder):
    """Its cell reads the histories of the models with published columns, and no others; a quick form has none."""
    graph = Graph(load([configure(folder, NUMBERS, quick={"seeds": [0]})]))
    (cell,) = [cell for cell in graph.cells() if cell.stage.name == "published"]
    assert cell.experiment == "small"
    models = [make_cell("train", "small", "lipschitz", seed) for seed in (0, 1)]
    histories = {path for path in graph.inputs(cell) if path.name == "history.parquet"}
    assert histories == {paths.history(model) for model in models}
    assert paths.published("small") in graph.inputs(make_cell("report", "small"))
    without = Graph(load([configure(folder, None)]))
    assert not [cell for cell in without.cells() if cell.stage.name == "published"]
