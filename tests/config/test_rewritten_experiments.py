"""The source documents' experiments, written with grids, are those that were written out variant by variant."""

from __future__ import annotations

from pathlib import Path

import pytest

from gauntlet.config import load
from gauntlet.pipeline.graph import Graph
from gauntlet.pipeline.staleness import Staleness
from tests.support import ROOT

WRITTEN_OUT = Path(__file__).parent / "written_out"


RESULTS = ("aggregate", "figure", "table", "effects", "report")
"""Stages that state the effects of the factors of grids."""


def recipes(file, *, with_grids=False):
    """Return the recipe of each cell as far as it is known without data, in the order of the graph."""
    config = load([file])
    for name, experiment in config.experiments.items():
        experiment.keep_grids(experiment.grids if with_grids else ())
        # Published numbers are newer than the files that are written out.
        config.experiments[name] = experiment.model_copy(update={"published": None})
    graph = Graph(config)
    staleness = Staleness(graph)
    return {str(cell): staleness.outline(cell).digest for cell in graph.cells()}


@pytest.mark.parametrize("name", [file.name for file in sorted(WRITTEN_OUT.glob("*.yaml"))])
def test_the_rewriting_with_grids_makes_nothing_stale(name, tmp_path, monkeypatch):
    """The same cells, in the same order, with the same recipes, of full and quick form.

    Only the factors of the grids are new: they belong to the recipes of tables and figures.
    """
    monkeypatch.chdir(tmp_path)
    before, after = recipes(WRITTEN_OUT / name), recipes(ROOT / "experiments" / name)
    assert list(after) == list(before)
    assert after == before
    new = recipes(ROOT / "experiments" / name, with_grids=True)
    assert {cell.split()[0] for cell, recipe in new.items() if recipe != before.get(cell)} <= set(RESULTS)
    assert any(experiment.grids for experiment in load([ROOT / "experiments" / name]).experiments.values())
