"""Tables of many variants: columns of factors, groups of rows, pages."""

from __future__ import annotations

import re

import pytest

from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation import CERTIFIED_SCHEMA
from gauntlet.reporting.aggregation.comparisons import COMPARISONS_SCHEMA
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables
from gauntlet.reporting.tables.rows import row_labels
from tests.reporting.tables.test_paper_tables import run_latex
from tests.support import synthetic
from tests.support.grids import grid_plan, write_results

PLAN = grid_plan((4, 4, 3), attacks=synthetic.ATTACKS[1:2], seeds=(0,), alone=("plain_one",))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """The tables of 48 variants of a grid, and of one of no grid."""
    evaluations = write_results(tmp_path_factory.mktemp("many"), PLAN, samples=20)
    summary = read_table(evaluations.parent / "summary.parquet")
    empty = COMPARISONS_SCHEMA.empty_table(), CERTIFIED_SCHEMA.empty_table()
    return render_tables(TableInputs(evaluations, summary, *empty))


def test_markdown_has_a_column_per_factor(texts):
    """In place of the names of the variants; one of no grid keeps its name."""
    lines = [line.strip("| ").split(" | ") for line in texts["table.md"].splitlines() if line.startswith("|")]
    assert lines[0][:3] == ["first", "second", "third"]
    assert lines[2][:3] == ["A0", "B0", "C0"]
    assert lines[49][:3] == ["A3", "B3", "C2"]
    assert lines[50][0] == r"plain\_one"
    assert "a0_b0" not in texts["table.md"]


def test_latex_groups_rows_by_factors_and_continues_on_the_next_page(texts):
    """A level is written where it changes, with a space above each level of the first factor."""
    body = texts["table.tex"].partition(r"\endfoot")[2]
    rows = [line.split(" & ")[:3] for line in body.splitlines() if line.endswith(r"\\")]
    assert [" ".join(row).split() for row in rows[:4]] == [["A0", "B0", "C0"], ["C1"], ["C2"], ["B1", "C0"]]
    assert body.count(r"\addlinespace") == 4
    assert len(re.findall(r"\bA0\b", body)) == 1
    assert r"\begin{longtable}" in texts["table.tex"]


def test_a_few_variants_keep_their_names():
    """Up to eight fit their names in a column."""
    assert row_labels(grid_plan((2, 2), alone=("e",))).heads == ("",)
    assert row_labels(grid_plan((3, 3))).heads == ("first", "second")
    assert row_labels(grid_plan((3, 3))).of["a2_b0"] == ("A2", "B0")


@pytest.mark.slow
def test_a_table_of_two_pages_compiles(texts, tmp_path):
    """With no line wider than the page."""
    (tmp_path / "table.tex").write_text(texts["table.tex"])
    head = r"\documentclass{article}\usepackage{booktabs,longtable}\usepackage[margin=1in]{geometry}"
    log = run_latex(tmp_path, rf"{head}\begin{{document}}\input{{table}}\end{{document}}")
    assert "Overfull" not in log
    assert "2 pages" in log
