"""Tables of effects, and the same on the page, from results alone."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import pytest

from gauntlet.core.parquet import read_table
from gauntlet.reporting.aggregation import EFFECTS_SCHEMA, GridDesign, certified_accuracies, measure_effects
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.from_results import figures_from_results, report_from_results, tables_from_results
from gauntlet.reporting.page import render_report
from gauntlet.reporting.tables.effect_cells import effect_tables, points_text
from gauntlet.reporting.tables.effect_files import render_effects
from tests.support import synthetic
from tests.support.cells import make_cell
from tests.support.grids import grid_plan, write_results

PLAN = grid_plan((3, 2), attacks=synthetic.ATTACKS[1:2], alone=("plain",))
PLAN = replace(PLAN, titles={"plain": "Plain"})
ABSENT = [make_cell("evaluate", "digits", "a2_b0", 0, "pgd")]


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """Write a grid of two factors, in which one cell is missing, and a variant of no grid."""
    return write_results(tmp_path_factory.mktemp("results"), PLAN, absent=ABSENT)


@pytest.fixture(scope="module")
def texts(evaluations, tmp_path_factory):
    """Write the tables from the results alone."""
    folder = tmp_path_factory.mktemp("tables")
    return {path.name: path.read_text() for path in tables_from_results(evaluations, folder)}


@pytest.fixture(scope="module")
def effects(texts):
    """The rows of the table as CSV."""
    return list(csv.DictReader(io.StringIO(texts["effects.csv"])))


def cells_of(line):
    """Return the fields of a line of a Markdown table."""
    return [field.strip() for field in line.strip("|").split("|")]


def test_every_number_of_the_table_is_a_row_of_the_effects(texts, effects):
    """Means at first levels, differences from them with half their intervals, bold where significant."""
    lines = [cells_of(line) for line in texts["effects.md"].splitlines() if re.match(r"\| (first|second) \|", line)]
    assert [line[:2] for line in lines] == [["first", name] for name in ("A0", "A1", "A2")] + [
        ["second", name] for name in ("B0", "B1")
    ]
    measures = list(dict.fromkeys(row["measure"] for row in effects))
    assert measures == ["clean", "robust", "certified"]
    for factor, title, *numbers in lines:
        for measure, number in zip(measures, numbers, strict=True):
            kind = "mean" if title.endswith("0") else "difference"
            (row,) = (
                row
                for row in effects
                if (row["measure"], row["kind"], row["factor"], row["level"], row["other_factor"])
                == (measure, kind, factor, title.lower(), "")
                and row["reference"] in ("", f"{title[0].lower()}0")
            )
            text = f"{100 * float(row['estimate']):{'+' if kind == 'difference' else ''}.1f}"
            text = f"**{text}**" if row["t_significant"] == "True" else text
            mark = r"\*" if int(row["missing"]) else ""
            assert number == f"{text} ± {50 * (float(row['t_high']) - float(row['t_low'])):.1f}{mark}"


def test_what_is_missing_is_named(texts, effects):
    """The cell takes its setting out of the comparisons with its level, and its variant is in the notes."""
    robust = [row for row in effects if row["measure"] == "robust" and row["kind"] == "difference"]
    left_out = {(row["level"], row["reference"]) for row in robust if row["left_out"] != "0"}
    assert left_out == {("a2", "a0"), ("a2", "a1"), ("b1", "b0")}
    assert r"Cells are missing of a2\_b0." in texts["effects.md"]
    assert "Cells are missing of a2\\_b0." in texts["effects.tex"]


def test_latex_is_well_formed(texts):
    """Every row of a tabular has its columns, braces balance, and signs are those of mathematics."""
    text = texts["effects.tex"]
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    rows = [line for line in text.splitlines() if re.match(r"(first|second)? & [AB]\d", line)]
    assert len(rows) == 5
    assert {line.count(" & ") for line in rows} == {4}
    assert not re.search(r"(?<!\$)-\d+\.\d", text)


def test_figure_and_page_come_from_results_alone(evaluations, tmp_path):
    """They compute the effects again, and the page has the same numbers as the table."""
    files = figures_from_results(evaluations, tmp_path, "factor_effects")
    assert [file.suffix for file in files] == [".pdf", ".svg", ".png"]
    (page,) = report_from_results(evaluations, tmp_path / "report.html")
    text = page.read_text()
    section = text[text.index('<h2 id="effects">') : text.index('<section id="curves"')]
    assert section.count('<tr><th scope="row">') == 5 + 2
    assert "Cells are missing of a2_b0." in section
    assert 'id="figure-factor_effects"' in text


def test_a_grid_of_which_one_variant_is_left_has_no_panels(tmp_path):
    """Next to another grid it takes no room, and alone it has no figure."""
    alone = GridDesign("single_{c}", PLAN.grids[0].factors[:1], {"plain": (1,)})
    assert [grid.is_varied for grid in (alone, *PLAN.grids)] == [False, True]
    both = write_results(tmp_path / "both", replace(PLAN, grids=(alone, *PLAN.grids)))
    assert len(figures_from_results(both, tmp_path / "drawn", "factor_effects")) == 3
    only = write_results(tmp_path / "only", replace(PLAN, grids=(alone,)))
    (page,) = report_from_results(only, tmp_path / "report.html")
    assert 'id="figure-robust_accuracy"' in page.read_text()
    assert 'id="figure-factor_effects"' not in page.read_text()


def test_a_small_negative_difference_is_no_negative_zero():
    """A difference that rounds to zero has one sign."""
    assert [points_text(value) for value in (-0.0001, 0.0, 0.0004, -0.0006, None)] == ["+0.0"] * 3 + ["-0.1", "–"]


def test_results_without_grids_have_no_tables_of_effects(tmp_path):
    """Neither files nor a section of the page."""
    plan = synthetic.plan(("softmax", "ecc"), (0,), synthetic.ATTACKS[1:2])
    evaluations = write_results(tmp_path, replace(plan, certificates=plan.certificates[-1:]), samples=20)
    assert "effects.md" not in {path.name for path in tables_from_results(evaluations, tmp_path / "tables")}
    assert 'id="effects"' not in render_report(find_inputs(evaluations), figures={})


def measured(evaluations):
    """Return the effects of an experiment."""
    certificates = evaluations.with_name("certificates.parquet")
    summary = read_table(evaluations.with_name("summary.parquet"))
    return measure_effects(evaluations, summary, certificates, certified_accuracies(certificates))


def test_one_seed_has_no_intervals_and_says_so(tmp_path):
    """Differences alone, none of them bold."""
    plan = replace(grid_plan((2,), attacks=synthetic.ATTACKS[1:2], seeds=(0,)))
    text = render_effects(measured(write_results(tmp_path, plan, samples=20)), plan)["effects.md"]
    assert "One training seed: there is no interval" in text
    assert "±" not in text
    assert "**" not in text


def notes_of(plan, rows):
    """Return the notes of the table of a plan's grid, from some rows of effects."""
    (table,) = effect_tables([dict.fromkeys(EFFECTS_SCHEMA.names) | row for row in rows], plan)
    return " ".join(table.notes)


def test_an_interval_of_a_mean_is_explained_where_differences_have_none(evaluations):
    """A level that changes nothing has equal differences in all seeds, but its mean varies over them."""
    plan = replace(PLAN, grids=PLAN.grids[:1])
    of_first = [
        row
        for row in measured(evaluations).to_pylist()
        if row["measure"] == "clean" and row["factor"] == "first" and row["other_factor"] is None
    ]
    assert "paired by seed" in notes_of(plan, of_first)
    equal = [
        row if row["kind"] == "mean" else row | {"t_low": None, "t_high": None, "t_p": None, "t_significant": False}
        for row in of_first
    ]
    notes = notes_of(plan, equal)
    assert "±: 95 % t-interval over training seeds. Differences have no interval and no test: they are equal" in notes
    without = [row | {"t_low": None, "t_high": None} for row in equal]
    assert "±" not in notes_of(plan, without)


def test_percentages_of_an_incomplete_grid_are_over_other_settings_than_differences(tmp_path):
    """A mean is over the settings of all levels, a difference over those of two; the notes say so."""
    plan = grid_plan((3, 2), attacks=synthetic.ATTACKS[1:2], left_out=("a2_b1",))
    evaluations = write_results(tmp_path, plan)
    tables_from_results(evaluations, tmp_path / "tables")
    text = (tmp_path / "tables" / "effects.md").read_text()
    assert "percentages are over those that it has at all levels of the factor" in text
