"""The summary as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pyarrow as pa
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import AttackDesign, certified_accuracies, combine, summarize
from gauntlet.reporting.aggregation.summary import SUMMARY_SCHEMA
from gauntlet.reporting.from_results import tables_from_results
from gauntlet.reporting.tables.summary_text import csv_table, markdown_table
from tests.support import synthetic
from tests.support.cells import make_cell

PLAN = synthetic.plan()


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """The summary of an experiment with a missing cell and errors of one attack."""
    folder = tmp_path_factory.mktemp("tables")
    files = synthetic.write_evaluations(folder, PLAN, samples=50, errors={"noise": 2})
    next(path for cell, path in files.items() if cell.name == "pgd").unlink()
    combine(files, folder / "evaluations.parquet", design=PLAN, allow_missing=True)
    return summarize(folder / "evaluations.parquet")


def test_csv_holds_every_row_with_the_worst_cases_first(summary):
    """The CSV reads back as the summary."""
    rows = list(csv.DictReader(io.StringIO(csv_table(summary))))
    assert len(rows) == len(summary)
    worst = [row["attack"].startswith("worst:") for row in rows]
    assert worst == sorted(worst, reverse=True)
    by_key = {(row["variant"], row["attack"], row["epsilon"]): row for row in summary.to_pylist()}
    for row in rows:
        expected = by_key[row["variant"], row["attack"], float(row["epsilon"])]
        assert float(row["robust_accuracy"]) == expected["robust_accuracy"]
        assert int(row["missing"]) == expected["missing"]


def test_markdown_starts_with_the_worst_case_and_its_intervals(summary):
    """Its numbers are the summary's."""
    text = markdown_table(summary)
    assert text.index("worst case per sample") < text.index("single attacks")
    for row in summary.to_pylist():
        if row["attack"] == "worst:l2":
            spread = "" if row["t_low"] is None else f" ± {50 * (row['t_high'] - row['t_low']):.1f}"
            shown = f"{100 * row['robust_accuracy']:.1f}{spread} [{100 * row['wilson_low']:.1f}"
            assert shown in text


def test_markdown_states_samples_and_seeds(summary):
    """Every variant and attack has its line."""
    text = markdown_table(summary)
    assert "50 samples × 3 seeds" in text
    for attack in PLAN.attacks:
        for variant in PLAN.variants:
            assert f"| {variant} | {attack.name} |".replace("_", r"\_") in text


def test_markdown_names_missing_cells_and_errors(summary):
    """They are listed, and marked at their numbers."""
    text = markdown_table(summary, missing=["evaluate digits variant=softmax seed=0 attack=pgd"])
    assert "variant=softmax seed=0 attack=pgd" in text
    assert "- softmax, noise: 6 samples" in text
    assert "- softmax, pgd: 1 of 3 seeds" in markdown_table(summary)
    lines = [line for line in text.splitlines() if line.startswith("| softmax")]
    assert all("*" in line.split("|")[4] for line in lines if "| pgd |" in line)
    assert all("†" in line.split("|")[4] for line in lines if "| noise |" in line)


def test_the_median_distance_says_that_it_is_of_fooled_samples(summary):
    """An attack that fools few samples, the nearest to the boundary, has a small median."""
    heads = [line for line in markdown_table(summary).splitlines() if line.startswith("| variant | attack |")]
    assert heads
    assert all(line.endswith("| median distance (fooled) |") for line in heads)


def test_names_cannot_break_the_table():
    """A pipe or a tag in a name is escaped."""
    plan = synthetic.plan(variants=("a|b<script>",))
    row = dict.fromkeys(SUMMARY_SCHEMA.names)
    row |= {"experiment": "e", "variant": plan.variants[0], "attack": "worst:linf", "norm": "linf", "epsilon": 0.1}
    row |= {"seeds": 0, "missing": 0, "errors": 0, "attacks": 0, "samples": 0}
    text = markdown_table(pa.Table.from_pylist([row], schema=SUMMARY_SCHEMA))
    assert r"a\|b\<script\>" in text


def test_a_norm_with_one_loss_is_named(summary):
    """The note is in the section of its norm only."""
    text = markdown_table(summary, single_losses={"linf": "cross_entropy"})
    note = "L∞: all attacks along gradients in the worst case ascend one loss, cross entropy; others may fool more."
    assert text.count(note) == 1
    assert text.index("## L∞") < text.index(note) < text.index("### L∞: single attacks")
    assert "one loss" not in markdown_table(summary)


def test_certificates_alone_are_measured(tmp_path):
    """Without attacks the page states the samples of the certificates, and nothing on robust accuracy."""
    plan = synthetic.plan(("softmax",), (0, 1), ())
    cells = [make_cell("certify", plan.experiment, "softmax", seed, "smooth") for seed in plan.seeds]
    files = {cell: tmp_path / f"{cell.seed}.parquet" for cell in cells}
    for cell, path in files.items():
        write_table(path, synthetic.smoothed(cell, samples=30), {})
    combine(files, tmp_path / "certificates.parquet", design=plan)
    certified = certified_accuracies(tmp_path / "certificates.parquet")
    text = markdown_table(SUMMARY_SCHEMA.empty_table(), certified=certified)
    assert "(pixel units of [0, 1]); 30 samples × 2 seeds." in text
    assert "nothing was measured" not in text
    assert "Robust accuracy" not in text
    assert "Nothing was measured." in markdown_table(SUMMARY_SCHEMA.empty_table())


def test_budgets_in_l0_are_counts(tmp_path):
    """Neither the summary nor the table for a paper calls them pixel units."""
    few = AttackDesign("few", "l0", (10.0, 12345.0))
    plan = synthetic.plan(("softmax",), (0,), (few,))
    folder = synthetic.write_experiment(tmp_path, replace(plan, certificates=())).evaluations.parent
    text = markdown_table(summarize(folder / "evaluations.parquet"))
    assert "fooled within ε (numbers of changed values)" in text
    assert "| ε = 12345 |" in text
    tables_from_results(folder / "evaluations.parquet", tmp_path / "tables")
    table = (tmp_path / "tables" / "table.md").read_text()
    assert "- Accuracy in percent; ε and r in numbers of changed values." in table


def test_large_distances_have_no_exponent(summary):
    """A median distance in L0 may be a thousand pixels."""
    column = summary.column_names.index("median_distance")
    large = summary.set_column(column, "median_distance", pa.array([1234.0] * len(summary), pa.float64()))
    text = markdown_table(large)
    assert "| 1234 |" in text
    assert "e+03" not in text
