"""The variants that a figure shows when there are many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.inputs import FigureInputs, HistoryFile
from tests.support import synthetic

NAMES = tuple(f"v{number}" for number in range(12))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Twelve variants of one seed."""
    plan = synthetic.plan(NAMES, (0,), synthetic.ATTACKS[1:2])
    made = synthetic.write_experiment(tmp_path_factory.mktemp("many"), plan, samples=20)
    histories = tuple(HistoryFile(*key, path) for key, path in made.histories.items())
    return FigureInputs(NAMES, made.evaluations, made.summary, made.certificates, histories)


def _legend(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("name", ["robust_accuracy", "training_curves", "coverage", "certified_accuracy"])
def test_of_many_variants_lines_show_the_first_eight_or_those_chosen(inputs, name):
    """A note counts the rest; a choice may have any number."""
    figure = draw(name, inputs)
    assert _legend(figure) == list(NAMES[:8])
    assert figure.get_supxlabel().endswith("the first 8 of 12 variants")
    chosen = draw(name, replace(inputs, shown=NAMES[1:]))
    assert _legend(chosen) == list(NAMES[1:])
    assert chosen.get_supxlabel().endswith("11 chosen of 12 variants")
    assert "variants" not in draw(name, inputs.only(NAMES[:8])).get_supxlabel()


def test_a_matrix_has_all_variants(inputs):
    """A choice of lines does not shorten it."""
    (axes, *_) = draw("heat_map", replace(inputs, shown=NAMES[:2])).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(NAMES)


def test_figures_with_a_panel_per_variant_have_those_chosen(inputs):
    """The choice is the same in every figure."""
    figure = draw("confidence", replace(inputs, shown=(NAMES[11], NAMES[3])))
    assert [axes.get_title(loc="left") for axes in figure.axes] == [NAMES[3], NAMES[11]]
