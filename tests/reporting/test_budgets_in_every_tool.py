"""Budgets are float64 everywhere: every way to compare them with a number gives one and the same count."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import read_metadata, write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.reporting.aggregation import AttackDesign, open_evaluations, summarize
from gauntlet.reporting.aggregation.definitions import FOOLED_AT, robust_at
from gauntlet.reporting.aggregation.design import DESIGN_KEY
from gauntlet.reporting.from_results import tables_from_results
from gauntlet.reporting.page.queries import page_queries
from gauntlet.robustness.certificates.counterexamples import COUNTEREXAMPLE_SCHEMA
from tests.support import synthetic

# As float32, 0.1 and 0.3 are above these numbers, 0.7 and 4/255 below.
GRID = (4 / 255, 0.1, 0.3, 0.7)
ATTACKS = (AttackDesign("pgd", "linf", GRID), AttackDesign("nearest", "linf", None))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results file of two attacks, its summary, and one as earlier versions wrote it, with float32 budgets."""
    folder = tmp_path_factory.mktemp("budgets")
    made = synthetic.write_experiment(folder, synthetic.plan(("softmax", "ecc"), (0, 1), ATTACKS), samples=150)
    table = pq.ParquetFile(made.evaluations).read()
    (folder / "old").mkdir()
    for name in ("epsilon", *synthetic.NORMS):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table[name].cast(pa.float32()))
    design = {DESIGN_KEY: read_metadata(made.evaluations)[DESIGN_KEY]}
    table = table.replace_schema_metadata(design)
    pq.write_table(table, folder / "old" / "evaluations.parquet")
    return folder


def test_no_table_holds_a_budget_as_float32():
    """Budgets, distances and radii are float64 in all schemas of rows."""
    for schema in (EVALUATION_SCHEMA, CERTIFICATE_SCHEMA, COUNTEREXAMPLE_SCHEMA):
        for name in {"epsilon", "radius", "distance", *synthetic.NORMS} & set(schema.names):
            assert schema.field(name).type == pa.float64(), name


@pytest.mark.parametrize("epsilon", GRID)
def test_every_comparison_gives_one_number(results, epsilon):
    """Literals, parameters, columns and joins in DuckDB, pandas, pyarrow and Polars count the same rows."""
    file = str(results / "evaluations.parquet")
    query = f"SELECT count(*) FROM '{file}' WHERE attack = 'pgd' AND status <> 'error' AND (epsilon IS NULL OR "
    literal = duckdb.sql(f"{query} epsilon > {epsilon!r})").fetchall()[0][0]
    joined = f"""
        SELECT count(*) FROM '{file}' e JOIN '{results / "summary.parquet"}' s USING (variant, attack)
        WHERE attack = 'pgd' AND s.epsilon = $x AND (e.epsilon IS NULL OR e.epsilon > s.epsilon)
    """
    table = pq.read_table(file).filter(pc.field("attack") == "pgd")
    frame, polars = table.to_pandas(), pl.from_arrow(table)
    column = pl.Series([epsilon] * len(table), dtype=pl.Float64)
    condition = robust_at(f"'{epsilon!r}'", FOOLED_AT)
    defined = f"SELECT count(*) FROM '{file}' WHERE attack = 'pgd' AND {condition}"
    counts = {
        "bound parameter": duckdb.execute(f"{query} epsilon > $x)", {"x": epsilon}).fetchall()[0][0],
        "double": duckdb.sql(f"{query} epsilon > {epsilon!r}::DOUBLE)").fetchall()[0][0],
        "definition": duckdb.sql(defined).fetchall()[0][0],
        "join": duckdb.execute(joined, {"x": epsilon}).fetchall()[0][0],
        "pandas": int((frame["epsilon"].isna() | (frame["epsilon"] > np.float64(epsilon))).sum()),
        "pyarrow": pc.sum(pc.fill_null(pc.greater(table["epsilon"], epsilon), True)).as_py(),
        "polars": polars.select((pl.col("epsilon").is_null() | (pl.col("epsilon") > column)).sum()).item(),
    }
    with open_evaluations(Path(file)) as evaluations:
        held = evaluations.query("SELECT count(*) AS n FROM outcomes WHERE name = 'pgd' AND fooled_at > $x", x=epsilon)
    counts["view"] = held["n"][0].as_py()
    assert counts == dict.fromkeys(counts, literal)
    at_budget = duckdb.execute(f"SELECT count(*) FROM '{file}' WHERE epsilon = $x", {"x": epsilon}).fetchall()[0][0]
    assert at_budget > 0


@pytest.mark.parametrize("designed", [True, False], ids=["with design", "without design"])
def test_files_with_float32_budgets_give_the_same_numbers(results, tmp_path, designed):
    """A file of an earlier version is read as the numbers that were configured; without a design, as short decimals."""
    table = pq.ParquetFile(results / "old" / "evaluations.parquet").read()
    assert table.schema.field("epsilon").type == pa.float32()
    if not designed:
        table = table.replace_schema_metadata(None)
    pq.write_table(table, tmp_path / "evaluations.parquet")
    expected = {
        (row["variant"], row["attack"], round(row["epsilon"], 6)): row["robust_accuracy"]
        for row in summarize(results / "evaluations.parquet").to_pylist()
    }
    summary = summarize(tmp_path / "evaluations.parquet")
    compared = 0
    for row in summary.to_pylist():
        key = row["variant"], row["attack"], round(row["epsilon"], 6)
        if designed or row["attack"] == "pgd":
            assert row["robust_accuracy"] == expected[key], key
            compared += 1
    assert compared >= 8
    if designed:
        assert sorted({row["epsilon"] for row in summary.to_pylist()}) == sorted(GRID)


def test_tables_and_queries_of_a_file_with_float32_budgets(results, tmp_path):
    """Tables are those of the same rows in float64, and the queries that the page shows give the same numbers."""
    old = results / "old" / "evaluations.parquet"
    texts = []
    for file, name in ((results / "evaluations.parquet", "new"), (old, "old")):
        copy = tmp_path / name / "evaluations.parquet"
        copy.parent.mkdir()
        shutil.copy(file, copy)
        texts.append([path.read_text() for path in tables_from_results(copy, tmp_path / name / "tables")])
    assert texts[0] == texts[1]
    condition = page_queries(())["single.robust"].partition("bool_and(")[2].partition(") AS holds")[0]
    condition = condition.replace(":budget", "'0.1'")
    shares = [
        duckdb.sql(f"SELECT avg(({condition})::INT), count(*) FROM '{file}' WHERE attack = 'pgd'").fetchall()
        for file in (old, results / "evaluations.parquet")
    ]
    assert shares[0] == shares[1]


def test_written_rows_read_back_the_configured_budget(tmp_path):
    """A budget that no float32 equals survives the file."""
    plan = synthetic.plan(("softmax",), (0,), ATTACKS)
    cell = synthetic.cells(plan)[0]
    rows = synthetic.evaluation(cell, ATTACKS[0], samples=200)
    write_table(tmp_path / "samples.parquet", rows, {})
    found = set(pq.read_table(tmp_path / "samples.parquet")["epsilon"].to_pylist())
    assert {0.1, 4 / 255} < found <= {None, 0.0, *GRID}
