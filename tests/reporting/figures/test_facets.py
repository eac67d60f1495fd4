"""Facets of figures of many variants: which factors, where each variant is drawn, and how."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from gauntlet.core.parquet import read_table
from gauntlet.reporting.figures.drawing import draw
from gauntlet.reporting.figures.facets import find_facets
from gauntlet.reporting.figures.results_files import find_inputs
from tests.support import synthetic
from tests.support.grids import grid_plan, write_results

PLAN = grid_plan((3, 2, 2), attacks=synthetic.ATTACKS[1:2], seeds=(0,), alone=("plain",))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A grid of twelve variants, and one of no grid."""
    return find_inputs(write_results(tmp_path_factory.mktemp("facets"), PLAN, samples=20))


def _facets(levels, alone=(), **options):
    plan = grid_plan(levels, alone=alone)
    return find_facets(plan.variants, {}, plan.grids, **options)


def test_the_fewest_facets_with_at_most_eight_lines_are_chosen():
    """One factor if that is enough, then two, the one with more levels in columns; the others are looks."""
    assert _facets((2, 5)).columns == ("first: A0", "first: A1")
    facets = _facets((4, 4, 3, 2))
    assert facets.rows == ("third: C0", "third: C1", "third: C2")
    assert facets.columns == ("first: A0", "first: A1", "first: A2", "first: A3")
    assert list(facets.legend) == [*(f"second: B{n}" for n in range(4)), "fourth: D0", "fourth: D1"]
    assert facets.places["a3_b1_c2_d0"] == (2, 3)


def test_named_factors_are_chosen():
    """If the variants have several levels of them."""
    facets = _facets((4, 4, 3, 2), named=["fourth"])
    assert (facets.rows, facets.columns) == (("",), ("fourth: D0", "fourth: D1"))
    assert _facets((4, 1, 4), named=["second"]) == _facets((4, 1, 4))


def test_variants_of_one_facet_differ_in_color_or_dashes():
    """Equal levels have equal looks in every facet."""
    facets = _facets((4, 4, 3, 2))
    looks = {}
    for name, place in facets.places.items():
        looks.setdefault(place, set()).add(str(facets.looks[name]))
    assert {len(of_place) for of_place in looks.values()} == {8}
    assert len(set().union(*looks.values())) == 8


def test_variants_that_no_choice_makes_readable_have_no_facets():
    """Too many lines or columns, and many variants of no grid."""
    assert _facets((7, 7)) is None
    assert _facets((5, 5, 5, 5)) is None
    assert _facets((3, 3), alone=("e", "f", "g", "h")) is None
    assert find_facets(["e", "f"], {}, ()) is None


def test_each_line_is_in_the_facet_of_its_levels(inputs):
    """The curve has the numbers of the summary and the look of the variant; a variant of no grid is in all facets."""
    figure = draw("robust_accuracy", inputs)
    facets = find_facets(inputs.variants, inputs.titles, inputs.grids)
    rows = read_table(inputs.path("summary")).to_pylist()
    assert len(figure.axes) == len(facets.rows) * len(facets.columns) == 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(facets.legend)
    for variant in inputs.variants:
        worst = [row for row in rows if row["variant"] == variant and row["attack"] == "worst:linf"]
        expected = [100 * value for value in (worst[0]["clean_accuracy"], *(row["robust_accuracy"] for row in worst))]
        look, place = facets.looks[variant], facets.places[variant]
        for number, axes in enumerate(figure.axes):
            found = any(
                np.allclose(line.get_ydata(), expected) and to_hex(line.get_color()) == look["color"].lower()
                for line in axes.lines
                if len(line.get_ydata()) == len(expected)
            )
            assert found or place not in (None, divmod(number, len(facets.columns))), (variant, number)
    assert len(figure.axes[0].lines) == 6 + 1


@pytest.mark.parametrize("name", ["coverage", "certified_accuracy"])
def test_other_figures_of_lines_have_the_same_facets(inputs, name):
    """Their heads name the levels, and all variants are drawn."""
    figure = draw(name, inputs)
    heads = [axes.get_title(loc="left").splitlines()[-1] for axes in figure.axes]
    assert heads[:2] == ["second: B0", "second: B1"]
    assert "variants" not in figure.get_supxlabel()


def test_a_choice_of_variants_is_divided_too(inputs):
    """Eight lines or fewer are in one panel again, named."""
    figure = draw("robust_accuracy", replace(inputs, shown=inputs.variants[:8]))
    assert len(figure.axes) == 1
    figure = draw("robust_accuracy", replace(inputs, shown=inputs.variants[:12]))
    assert len(figure.axes) == 2
    assert figure.get_supxlabel().endswith("12 chosen of 13 variants")
