"""Bold numbers of tables and page: significant over trainings and on the same samples, so never with one seed."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import AttackDesign, compare_variants, summarize
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA
from gauntlet.reporting.best import Candidate, best_variant
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.page import render_report
from gauntlet.reporting.page.comparisons import list_comparisons
from gauntlet.reporting.tables.cells import TableInputs
from gauntlet.reporting.tables.files import render_tables
from tests.support import synthetic

ATTACKS = (AttackDesign("pgd", "linf", (0.03, 0.1)), AttackDesign("fgsm", "linf", (0.03, 0.1)))


def pair(variant, other, *, models=True, trainings=True, difference=-0.1):
    """Return a comparison of two variants, of which the second is above the first."""
    significant = {"significant": models, "t_significant": trainings}
    return {"variant": variant, "other": other, "difference": difference, **significant}


def column(**accuracies):
    """Return the numbers of a column without doubts."""
    return {variant: Candidate(accuracy, 0, "") for variant, accuracy in accuracies.items()}


def test_both_comparisons_must_be_significant():
    """The highest number is bold if both tests against every other variant say so."""
    numbers = column(a=0.5, b=0.7, c=None)
    assert best_variant(numbers, [pair("a", "b")], under_attack=True) == "b"
    assert best_variant(numbers, [pair("a", "b", models=False)], under_attack=True) is None
    assert best_variant(numbers, [pair("a", "b", trainings=False)], under_attack=True) is None
    assert best_variant(column(a=0.5, b=0.7, c=0.1), [pair("a", "b")], under_attack=True) is None
    assert best_variant(column(a=0.5), [], under_attack=True) is None


def test_a_variant_that_is_significantly_lower_on_shared_seeds_is_not_bold():
    """One with further seeds of its own may have the higher mean: the comparison is over those that both have."""
    assert best_variant(column(a=0.7, b=0.5), [pair("a", "b")], under_attack=True) is None
    assert best_variant(column(a=0.7, b=0.5), [pair("a", "b", difference=0.1)], under_attack=True) == "a"
    assert best_variant(column(a=0.5, b=0.7), [pair("a", "b", difference=0.1)], under_attack=True) is None


@pytest.mark.parametrize(
    ("doubt", "under_attack", "bold"),
    [
        ({"missing": 1}, True, False),
        ({"flags": "zero_gradients"}, True, False),
        ({"flags": None}, True, False),
        ({"flags": None}, False, True),
        ({"flags": "near_chance"}, False, False),
    ],
)
def test_a_number_in_doubt_is_not_bold(doubt, under_attack, bold):
    """Missing cells, failed checks, and under attack models that were not diagnosed."""
    numbers = column(a=0.5, b=0.7)
    numbers["b"] = numbers["b"]._replace(**doubt)
    assert (best_variant(numbers, [pair("a", "b")], under_attack=under_attack) == "b") == bold


def test_a_variant_whose_cells_are_all_missing_leaves_no_number_bold():
    """It might be above the others."""
    numbers = column(a=0.5, b=0.7) | {"c": Candidate(None, 3, "")}
    assert best_variant(numbers, [pair("a", "b")], under_attack=True) is None


def test_clean_comparisons_have_the_marks_of_clean_accuracies(tmp_path):
    """A model at chance is marked there as in every table."""
    design = synthetic.plan(("softmax", "lipschitz"), (0, 1, 2), ATTACKS)
    made = synthetic.write_experiment(tmp_path, design, samples=80)
    summary = summarize(made.evaluations, flags={("softmax", "linf"): ("accuracy_at_chance",)}).to_pylist()
    compared = compare_variants(made.evaluations).to_pylist()
    (clean,) = [one for one in list_comparisons(compared, summary, {}) if one.measure == "clean accuracy"]
    assert {clean.variant, clean.other} == {"softmax‡", "lipschitz"}


@pytest.mark.parametrize("seeds", [1, 4])
def test_tables_and_page_have_the_same_bold_numbers(tmp_path, seeds):
    """With four seeds that agree some numbers are bold; with one seed none is, however many samples there are."""
    design = synthetic.plan(("softmax", "lipschitz"), tuple(range(seeds)), ATTACKS)
    made = synthetic.write_experiment(tmp_path, replace(design, certificates=()), samples=600)
    summary = summarize(made.evaluations, flags={})
    compared = compare_variants(made.evaluations)
    texts = render_tables(TableInputs(made.evaluations, summary, compared, CERTIFIED_SCHEMA.empty_table()))
    rows = list(csv.DictReader(io.StringIO(texts["table.csv"])))
    bold = {(row["variant"], row["name"], float(row["epsilon"])) for row in rows if row["best"] == "True"}
    worst = {one for one in bold if one[1] == "worst:linf"}
    write_table(tmp_path / "flagged.parquet", summary, design.metadata())
    write_table(tmp_path / "comparisons.parquet", compared, {})
    inputs = FigureInputs(
        design.variants, made.evaluations, tmp_path / "flagged.parquet", comparisons=tmp_path / "comparisons.parquet"
    )
    page = render_report(inputs, figures={})
    shown = len(re.findall(r'class="mean best"', page))
    significant = [row for row in compared.to_pylist() if row["name"] == "worst:linf"]
    assert all(row["significant"] for row in significant)
    assert shown == (2 if seeds == 4 else 0)
    assert bool(worst) == (seeds == 4)
    assert texts["table.md"].count("**") == 2 * len(bold)
    assert "never with one seed" in texts["table.md"]
    assert "Comparisons of variants" in page


def test_the_page_states_both_comparisons(tmp_path):
    """A row has difference, intervals and adjusted p-values of the file, the best variant first, with its marks."""
    design = synthetic.plan(("softmax", "lipschitz"), (0, 1, 2), ATTACKS)
    made = synthetic.write_experiment(tmp_path, design, samples=80)
    compared = compare_variants(made.evaluations)
    write_table(tmp_path / "comparisons.parquet", compared, {})
    flags = {("softmax", "linf"): ("zero_gradients",)}
    write_table(tmp_path / "flagged.parquet", summarize(made.evaluations, flags=flags), {})
    inputs = FigureInputs(
        design.variants, made.evaluations, tmp_path / "flagged.parquet", comparisons=tmp_path / "comparisons.parquet"
    )
    page = " ".join(re.sub(r"<[^>]*>", " ", render_report(inputs, figures={})).split())
    (row,) = (one for one in compared.to_pylist() if (one["name"], one["epsilon"]) == ("worst:linf", 0.03))
    sign = 1 if row["difference"] > 0 else -1
    best, other = (f"{one}{'‡' if one == 'softmax' else ''}" for one in (row["variant"], row["other"])[::sign])
    ends = (row["t_low"], row["t_high"]), (row["low"], row["high"])
    spans = [np.sort(100 * sign * np.array(both)) for both in ends]
    ps = ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in (row["t_p_holm"], row["p_holm"])]
    texts = [f"[{span[0]:+.1f}, {span[1]:+.1f}] {p}" for span, p in zip(spans, ps, strict=True)]
    difference = f"{100 * abs(row['difference']):+.1f}"
    line = f"worst case, L∞, ε = 0.03 {best} {other} {difference} {' '.join(texts)}"
    assert line.replace("<", "&lt;") in page


def test_a_difference_that_rounds_to_zero_has_no_minus_sign():
    """Neither the difference nor the ends of its intervals, whichever variant is the better one."""
    row = {"measure": "clean", "variant": "one", "other": "two", "name": "", "epsilon": 0.0, "missing": 0}
    row |= {"p_holm": 1.0, "t_p_holm": None, "accuracy": 0.9, "other_accuracy": 0.9, "t_low": None, "t_high": None}
    for difference, other_accuracy in ((0.0, 0.9), (-0.0001, 0.9001), (0.0001, 0.8999)):
        compared = row | {"difference": difference, "other_accuracy": other_accuracy, "low": -0.0004, "high": 0.0004}
        (found,) = list_comparisons([compared], [], {})
        assert (found.difference, found.models[0]) == ("+0.0", "[+0.0, +0.0]")
