"""The variants that `show` selects: by name and by condition, mistakes, and what an edit makes stale."""

from __future__ import annotations

import copy

import pytest

from gauntlet.config import load
from gauntlet.core.errors import InputError
from tests.config.test_grids import NAMES, SMALL
from tests.support.stub_outputs import finish_cells, staleness_in
from tests.support.yaml_text import dump_yaml, parse_yaml


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _load(folder, show, **keys):
    content = copy.deepcopy(parse_yaml(SMALL))
    content["experiments"]["small"] |= {**keys, **({} if show is None else {"show": show})}
    (folder / "config.yaml").write_text(dump_yaml(content))
    return load([folder / "config.yaml"])


@pytest.mark.parametrize(
    ("show", "names"),
    [
        (["relog_1", "plain"], ["plain", "relog_1"]),
        ([{"activation": "relog", "unit": "oval"}], ["relog_oval_1", "relog_oval_2p5"]),
        ([{"beta": [1, 2.5], "unit": ""}, "smooth-net"], ["relog_1", "relog_2p5", "smooth-net"]),
        ([{"loss": "cross_entropy"}, "plain"], ["plain", "cross_entropy-net"]),
    ],
)
def test_variants_are_shown_by_name_or_by_condition_in_the_order_of_the_file(folder, show, names):
    """A condition concerns the grids that have its axes."""
    assert _load(folder, show).experiments["small"].shown() == (tuple(names), [])


@pytest.mark.parametrize(
    ("show", "message"),
    [
        (["relog_3"], r"yaml:\d+:\d+: experiments\.small\.show\.0: no variant 'relog_3'; did you mean 'relog_1'"),
        (["plain", {"activations": "relu"}], r"show\.1\.activations: no axis 'activations'; did you mean 'activation'"),
        ([{"activation": "gelu"}], r"show\.0\.activation: the axis 'activation' has no level 'gelu'"),
        ([{"activation": "relu", "unit": "oval"}], r"show\.0: the condition holds for no variant"),
        ([{"activation": "relu", "loss": "smooth"}], r"show\.0: no grid has all of these axes"),
        (["plain_low"], r"show\.0: 'plain_low' is a candidate of 'tuned', and only the chosen one has results"),
        ([], r"small\.show: "),
    ],
)
def test_a_selection_that_shows_nothing_is_refused_at_its_line(folder, show, message):
    """The line names what would be right."""
    variants = parse_yaml(SMALL)["experiments"]["small"]["variants"]
    chosen = {"plain_low": {"model": "cnn", "training": {"batch_size": 8}}, "tuned": {"chosen_from": ["plain_low"]}}
    with pytest.raises(InputError, match=message):
        _load(folder, show, variants={**variants, **chosen})


def test_facets_are_by_axes(folder):
    """Another name is refused; the choice redraws figures with facets alone."""
    with pytest.raises(InputError, match=r"small\.facets: no axis 'activations'; did you mean 'activation'"):
        _load(folder, None, facets=["activations"])
    _load(folder, None)
    finish_cells(folder)
    _load(folder, None, facets=["activation", "unit"])
    staleness = staleness_in(folder)
    stale = {cell.name for cell in staleness.graph.cells() if not staleness.is_current(cell)}
    assert stale == {"coverage", "robust_accuracy", "training_curves"}


def test_a_quick_form_shows_those_of_the_variants_that_it_has(folder):
    """It inherits the key, and need not repeat it."""
    quick = {"variants": {"plain": None}, "attacks": {"moved": None}}
    config = _load(folder, ["plain", "relu"], quick=quick)
    assert config.experiments["small_quick"].shown()[0] == ("relu",)


def test_another_selection_redraws_figures_and_makes_nothing_else_stale(folder):
    """Cells, numbers, tables and matrices stay; figures with a choice of variants and the page do not."""
    _load(folder, None)
    finish_cells(folder)
    assert staleness_in(folder).graph.experiment("small").shown() == ((), [])
    _load(folder, NAMES[:2])
    staleness = staleness_in(folder)
    stale = {(cell.stage.name, cell.name) for cell in staleness.graph.cells() if not staleness.is_current(cell)}
    assert {stage for stage, _ in stale} <= {"figure", "report"}
    figures = {name for stage, name in stale if stage == "figure"}
    assert {"robust_accuracy", "confidence", "training_curves"} <= figures
    assert figures.isdisjoint({"heat_map", "diagnostics_matrix", "transfer_matrix"})
