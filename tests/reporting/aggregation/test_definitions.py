"""Each number has one definition: summary, comparisons, tables, macros, page and their queries agree on it."""

from __future__ import annotations

import re
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import write_table
from gauntlet.reporting.aggregation import AttackDesign, combine, compare_variants, open_evaluations, summarize
from gauntlet.reporting.aggregation.certified import CERTIFIED_SCHEMA
from gauntlet.reporting.aggregation.definitions import is_certified, is_robust
from gauntlet.reporting.figures.inputs import FigureInputs
from gauntlet.reporting.page.content import read_content as read_page
from gauntlet.reporting.page.queries import page_queries
from gauntlet.reporting.tables.cells import TableInputs, read_table_content
from gauntlet.reporting.tables.files import render_tables
from tests.support import synthetic
from tests.support.cells import make_cell

GRID = (0.03, 0.1, 8 / 255)
ATTACKS = (
    AttackDesign("fgsm", "linf", tuple(sorted(GRID)), without=("ecc",)),
    AttackDesign("pgd", "linf", tuple(sorted(GRID))),
    AttackDesign("rubbish", "linf", (0.05, 0.1, 1.0), counts=False),
    AttackDesign("noise", "l2", synthetic.L2),
    AttackDesign("cw", "l2", None),
)
PLAN = replace(
    synthetic.plan(("softmax", "ecc", "lipschitz"), (0, 1, 2), ATTACKS),
    certificates=(),
    headline={"linf": tuple(sorted(GRID)), "l2": synthetic.L2},
)
ERRORS = {"pgd": 4, "rubbish": 7, "cw": 2}
ABSENT = [
    make_cell("evaluate", "digits", "softmax", 1, "pgd"),
    make_cell("evaluate", "digits", "lipschitz", 2, "noise"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """An experiment with errors, samples already wrong, null budgets, an attack that does not count, missing cells."""
    folder = tmp_path_factory.mktemp("definitions")
    files = synthetic.write_evaluations(folder / "cells", PLAN, samples=70, errors=ERRORS)
    for cell in ABSENT:
        files[cell].unlink()
    path = folder / "evaluations.parquet"
    combine(files, path, design=PLAN, allow_missing=True)
    write_table(folder / "summary.parquet", summarize(path), PLAN.metadata())
    return TableInputs(path, summarize(path), compare_variants(path), CERTIFIED_SCHEMA.empty_table())


def count_by_hand(path, variant, attacks, epsilon):
    """Return the mean over seeds of the share of samples that no attack fooled within `epsilon`, in percent."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["variant"] == variant and row["attack"] in attacks]
    shares = []
    for seed in sorted({row["seed"] for row in rows}):
        robust = {}
        for row in rows:
            if row["seed"] == seed:
                unbroken = row["epsilon"] is None or row["epsilon"] > epsilon
                robust[row["index"]] = robust.get(row["index"], True) and row["status"] != "error" and unbroken
        shares.append(np.mean(list(robust.values())))
    return 100 * np.mean(shares)


def run_page_query(path, norm, name, ids):
    """Return what the page's query for a robust accuracy gives."""
    table = "worst" if name.startswith("worst:") else "single"
    values = {"rows": path, "norm": norm, "attack": name, **ids}
    query = re.sub(
        r":(rows|variant|attack|norm|budget)\b",
        lambda found: f"'{values[found[1]]}'",
        page_queries(PLAN.uncounted)[f"{table}.robust"],
    )
    return duckdb.sql(query).fetchall()[0][0]


@pytest.fixture(scope="module")
def content(inputs):
    """Columns and cells of the table."""
    return read_table_content(inputs)


@pytest.fixture(scope="module")
def macro_queries(inputs, content):
    """Map (variant, name, budget) to the query above the macro of the number."""
    found = re.findall(r"^% (SELECT .*)$", render_tables(inputs)["macros.tex"], flags=re.MULTILINE)
    keys = [
        (variant, column.name, column.epsilon)
        for variant in PLAN.variants
        for column in content.columns
        if content.cells[variant, column].accuracy is not None
    ]
    return dict(zip(keys, found, strict=True))


@pytest.fixture(scope="module")
def page_numbers(inputs):
    """Map (variant, name) to the numbers of the page by budget."""
    page = read_page(FigureInputs(PLAN.variants, inputs.evaluations, inputs.evaluations.parent / "summary.parquet"))
    return {
        (line.variant, line.attack): {
            budget: number[1] for (budget, _), number in zip(section.budgets, line.numbers, strict=True) if number
        }
        for section in page.norms
        for line in (*section.worst, *section.single)
    }


@pytest.mark.parametrize("variant", PLAN.variants)
@pytest.mark.parametrize("name", ["worst:linf", "worst:l2", *(attack.name for attack in ATTACKS)])
def test_robust_accuracy_is_one_number_wherever_it_is_stated(
    inputs, content, macro_queries, page_numbers, variant, name, monkeypatch
):
    """Count by hand, summary, table, its macro's query, page, its query: equal at each budget that they state."""
    monkeypatch.chdir(inputs.evaluations.parent)
    norm = name.removeprefix("worst:") if ":" in name else next(one.norm for one in ATTACKS if one.name == name)
    over = [one.name for one in ATTACKS if one.norm == norm and one.counts] if ":" in name else [name]
    rows = {
        row["epsilon"]: row for row in inputs.summary.to_pylist() if (row["variant"], row["attack"]) == (variant, name)
    }
    assert bool(rows) == ((variant, name) != ("ecc", "fgsm"))
    cells = {
        column.epsilon: cell
        for (owner, column), cell in content.cells.items()
        if (owner, column.name) == (variant, name)
    }
    for epsilon, row in rows.items():
        expected = count_by_hand(inputs.evaluations, variant, over, epsilon)
        assert 100 * row["robust_accuracy"] == pytest.approx(expected)
        assert run_page_query(inputs.evaluations, norm, name, {"variant": variant, "budget": epsilon}) == (
            pytest.approx(expected)
        )
        assert 100 * page_numbers[variant, name][epsilon] == pytest.approx(expected)
        if name != "rubbish":
            assert 100 * cells[epsilon].accuracy == pytest.approx(expected)
            assert duckdb.sql(macro_queries[variant, name, epsilon]).fetchall()[0][0] == pytest.approx(expected)


def test_comparisons_use_the_definitions_of_the_summary(inputs):
    """If both variants of a pair have every seed, their accuracies are those of the summary."""
    stated = {(row["variant"], row["attack"], row["epsilon"]): row for row in inputs.summary.to_pylist()}
    compared = 0
    for row in inputs.comparisons.to_pylist():
        if row["measure"] == "robust" and not row["missing"]:
            for side, accuracy in (("variant", "accuracy"), ("other", "other_accuracy")):
                expected = stated[row[side], row["name"], row["epsilon"]]["robust_accuracy"]
                assert row[accuracy] == pytest.approx(expected)
                compared += 1
    assert compared > 10


def test_the_worst_case_of_arrays_is_that_of_the_view(inputs):
    """NumPy and SQL agree sample by sample."""
    for epsilon in GRID:
        with open_evaluations(inputs.evaluations) as evaluations:
            table = evaluations.query(
                "SELECT fooled_at, fooled_at > $epsilon AS robust FROM worst_cases", epsilon=epsilon
            )
        assert is_robust(table["fooled_at"].to_numpy(), epsilon).tolist() == table["robust"].to_pylist()
    radii = np.asarray([0.1, 0.3, 8 / 255, -1.0])
    for radius in (0.1, 0.3, 8 / 255, 0.0):
        sql = f"SELECT radius >= {radius}::DOUBLE FROM (SELECT unnest($1::DOUBLE[]) AS radius)"
        found = duckdb.execute(sql, [radii.tolist()]).fetchall()
        assert is_certified(radii, radius).tolist() == [row[0] for row in found]
