"""Budgets that are equal up to rounding, such as 8/255 and 0.0314: one column, with the successes of all attacks."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gauntlet.reporting.aggregation import (
    AttackDesign,
    compare_variants,
    headline_budgets,
    norm_grids,
    open_evaluations,
    summarize,
)
from gauntlet.reporting.aggregation.budget_grids import bounded_grid, merge_budgets
from gauntlet.reporting.tables.cells import TableInputs, read_table_content
from gauntlet.reporting.tables.published_rows import PublishedEntry, measure_published
from tests.support import synthetic

EXACT, ROUNDED = 8 / 255, 0.0314
ATTACKS = (
    AttackDesign("fgsm", "linf", (0.01, EXACT)),
    AttackDesign("pgd", "linf", (ROUNDED, 0.1)),
    # In normalized units, multiplied by a standard deviation.
    AttackDesign("spsa", "linf", (0.03138, 0.0999951)),
    AttackDesign("fewer", "linf", (0.03139,), counts=False, samples=20),
)
GRID = (0.01, ROUNDED, 0.1)


@pytest.fixture(scope="module", params=[None, EXACT, 0.03137], ids=["default", "8/255", "0.03137"])
def made(request, tmp_path_factory):
    """Write an experiment of four attacks at close budgets, without a headline or with one of other digits."""
    headline = {"linf": (request.param,)} if request.param else {}
    plan = replace(synthetic.plan(("softmax", "ecc"), (0, 1), ATTACKS), certificates=(), headline=headline)
    return synthetic.write_experiment(tmp_path_factory.mktemp("close"), plan, samples=80)


def test_the_worst_case_at_a_budget_is_over_all_attacks_that_were_run_there(made):
    """It had been the one of the attack with the smallest rounding, and too high by that of the others."""
    with open_evaluations(made.evaluations) as opened:
        grids = norm_grids(opened)
        assert grids == {"linf": GRID}
        (headline,) = headline_budgets(opened.design, grids)["linf"]
        query = (
            "SELECT avg(holds::INT) AS share FROM (SELECT bool_and(NOT coalesce(epsilon < 0.032, false)) AS holds"
            " FROM evaluations WHERE variant = 'softmax' AND attack IN ('fgsm', 'pgd', 'spsa') GROUP BY seed, index)"
        )
        expected = opened.query(query)["share"][0].as_py()
    assert headline == GRID[1]
    rows = {(row["variant"], row["attack"], row["epsilon"]): row for row in summarize(made.evaluations).to_pylist()}
    assert rows["softmax", "worst:linf", headline]["robust_accuracy"] == pytest.approx(expected)
    assert {epsilon for _, attack, epsilon in rows if attack == "spsa"} == set(GRID[1:])
    assert {epsilon for _, attack, epsilon in rows if attack == "worst:linf"} == set(GRID)


def test_every_attack_has_a_column_at_the_headline_budget(made):
    """None is listed as run at other budgets, and each column has its comparison of variants."""
    summary, compared = summarize(made.evaluations), compare_variants(made.evaluations)
    content = read_table_content(TableInputs(made.evaluations, summary, compared, summary.slice(0, 0)))
    names = [column.name for column in content.columns if column.epsilon == GRID[1]]
    assert names == ["fgsm", "pgd", "spsa", "fewer", "worst:linf"]
    assert content.left_out == ()
    pairs = {(row["name"], row["epsilon"]) for row in compared.to_pylist()}
    assert {(name, GRID[1]) for name in names} <= pairs


def test_a_published_number_finds_the_headline_budget_of_other_digits(made):
    """With or without a budget of its own: `gauntlet check` accepts both, and the stage had refused the second."""
    entries = [
        PublishedEntry("softmax", quantity, "attack", "spsa", budget, is_share=True, value=50.0)
        for quantity, budget in (("spsa", None), ("spsa@0.0314", 0.03138))
    ]
    missing = made.evaluations.with_name("certificates.parquet")
    summary = summarize(made.evaluations)
    rows = measure_published(
        "", entries, evaluations=made.evaluations, certificates=missing, summary=summary, histories={}
    ).to_pylist()
    (expected,) = [
        row["robust_accuracy"]
        for row in summary.to_pylist()
        if (row["variant"], row["attack"], row["epsilon"]) == ("softmax", "spsa", GRID[1])
    ]
    assert [row["budget"] for row in rows] == [GRID[1]] * 2
    assert [row["measured"] for row in rows] == pytest.approx([100 * expected] * 2)


def test_samples_that_are_fooled_at_close_budgets_are_no_difference_of_variants(tmp_path):
    """One attack each, at 8/255 and at 0.0314: no sample needs a smaller or larger budget by the rounding."""
    attacks = (AttackDesign("pgd", "linf", (ROUNDED,)), AttackDesign("fgsm", "linf", (EXACT,)))
    plan = replace(synthetic.plan(("softmax", "ecc"), (0,), attacks), certificates=())
    rows = synthetic.write_experiment(tmp_path, plan, samples=80).evaluations
    with open_evaluations(rows) as opened:
        found = opened.query("SELECT DISTINCT fooled_at FROM evaluations WHERE fooled")["fooled_at"].to_pylist()
        kept = opened.query("SELECT count(*) AS n FROM evaluations WHERE fooled")["n"][0].as_py()
    assert found == [ROUNDED]
    assert kept == pq.read_table(rows).filter(pc.equal(pc.field("status"), "adversarial")).num_rows


def test_budgets_of_one_attack_and_distant_ones_are_never_merged():
    """Each budget is the largest that is close to it, so that chains of close budgets do not drift."""
    assert merge_budgets({"a": (0.1, 0.10005), "b": (0.10003,)}) == {0.1: {"a"}, 0.10005: {"a", "b"}}
    assert merge_budgets({"a": (1.0,), "b": (1.0008,), "c": (1.0016,)}) == {1.0: {"a"}, 1.0016: {"b", "c"}}
    counts = tuple(AttackDesign(name, "l0", (value,)) for name, value in (("a", 5000.0), ("b", 5001.0)))
    assert bounded_grid(synthetic.plan(attacks=counts), "l0") == (5000.0, 5001.0)
    assert merge_budgets({"a": (1.0, 2.0), "b": (2.0,), "c": ()}) == {1.0: {"a"}, 2.0: {"a", "b"}}
