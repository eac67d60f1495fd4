"""The tables of docs/schema.md are the schemas of the code, and its ten queries return correct numbers."""

from __future__ import annotations

import re

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gauntlet.core.parquet import read_table, write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, CHOICE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.learning.training.history import HISTORY_SCHEMA
from gauntlet.pipeline import paths
from gauntlet.reporting.aggregation import CERTIFIED_SCHEMA, AttackDesign, CertificateDesign, measure_attacks
from gauntlet.reporting.aggregation.attacks import ATTACKS_SCHEMA
from gauntlet.reporting.aggregation.comparisons import COMPARISONS_SCHEMA
from gauntlet.reporting.aggregation.effects import EFFECTS_SCHEMA
from gauntlet.reporting.aggregation.grids import VARIANTS_SCHEMA
from gauntlet.reporting.aggregation.origins import ORIGINS_SCHEMA
from gauntlet.reporting.aggregation.summary import SUMMARY_SCHEMA
from gauntlet.reporting.tables.published_rows import PUBLISHED_SCHEMA
from gauntlet.robustness.certificates.counterexamples import COUNTEREXAMPLE_SCHEMA, find_counterexamples
from gauntlet.robustness.diagnostics.checks import CHECKS, DIAGNOSTICS_SCHEMA
from gauntlet.robustness.diagnostics.measurements import MEASUREMENT_SCHEMA
from gauntlet.robustness.inspection.arrays import INSPECTION_SCHEMA
from tests.support import ROOT, synthetic

PAGE = (ROOT / "docs" / "schema.md").read_text()
CELLS, *QUERIES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SCHEMAS = {
    "evaluations.parquet": EVALUATION_SCHEMA,
    "certificates.parquet": CERTIFICATE_SCHEMA,
    "counterexamples.parquet": COUNTEREXAMPLE_SCHEMA,
    "summary.parquet": SUMMARY_SCHEMA,
    "certified.parquet": CERTIFIED_SCHEMA,
    "attacks.parquet": ATTACKS_SCHEMA,
    "comparisons.parquet": COMPARISONS_SCHEMA,
    "choices.parquet": CHOICE_SCHEMA,
    "variants.parquet": VARIANTS_SCHEMA,
    "effects.parquet": EFFECTS_SCHEMA,
    "published.parquet": PUBLISHED_SCHEMA,
    "diagnostics.parquet": DIAGNOSTICS_SCHEMA,
    "origins.parquet": ORIGINS_SCHEMA,
    "models/variant=V/seed=S/history.parquet": HISTORY_SCHEMA,
    "diagnostics/variant=V/seed=S/probes.parquet": MEASUREMENT_SCHEMA,
    "inspections/variant=V/seed=S/inspection.parquet": INSPECTION_SCHEMA,
}
ATTACKS = (
    AttackDesign("fgsm", "linf", synthetic.LINF),
    AttackDesign("pgd", "linf", synthetic.LINF),
    AttackDesign("transfer", "linf", (0.1, 0.3), without=("softmax",), sources=("softmax",)),
    AttackDesign("ddn", "l2", None),
    AttackDesign("noise", "l2", synthetic.L2),
)


def type_name(kind: pa.DataType) -> str:
    """Return the page's name of a type."""
    if pa.types.is_list(kind):
        return f"list of {type_name(kind.value_type)}"
    return {"float": "float32", "double": "float64"}.get(str(kind), str(kind))


def sections() -> dict[str, str]:
    """Split the page at its file headings."""
    parts = re.split(r"^### `(.*)`$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("file", SCHEMAS)
def test_every_column_is_documented_with_its_type(file):
    """Columns are in the file's order, each with type, unit and meaning."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", sections()[file], flags=re.MULTILINE)
    assert [(name, kind) for name, kind, *_ in rows] == [(field.name, type_name(field.type)) for field in SCHEMAS[file]]
    assert all(unit.strip() and meaning.strip() for *_, unit, meaning in rows)


def test_every_file_of_aggregation_has_a_section():
    """Each parquet file of the aggregation has a section."""
    made = {path.name for path in paths.aggregates("x") if path.suffix == ".parquet"}
    assert made <= set(SCHEMAS) <= set(sections())


def test_every_schema_of_the_code_has_a_section():
    """Each schema but that of transfers, which is no file, has a section."""
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert len(re.findall(r"^\w+_SCHEMA = pa\.schema\($", source, flags=re.MULTILINE)) == len(SCHEMAS) + 1


def test_files_of_cells_are_read_as_one_table(tmp_path, monkeypatch):
    """The code of the page reads all cells with pandas; pyarrow, DuckDB and Polars agree."""
    plan = synthetic.plan(("softmax", "ecc"), (0, 1), ATTACKS[:2])
    for cell in synthetic.cells(plan):
        attack = next(one for one in plan.attacks if one.name == cell.name)
        folder = tmp_path / f"evaluations/variant={cell.variant}/seed={cell.seed}/attack={cell.name}"
        write_table(folder / "samples.parquet", synthetic.evaluation(cell, attack, samples=10), {})
        (folder / "examples.safetensors").write_bytes(b"images")
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(CELLS, known)
    rows = known["rows"]
    assert list(rows.columns) == EVALUATION_SCHEMA.names
    assert (len(rows), set(rows["variant"]), rows["seed"].dtype) == (80, {"softmax", "ecc"}, "int64")
    pattern = "evaluations/**/samples.parquet"
    in_duckdb = duckdb.sql(f"SELECT variant, seed, attack, sum(epsilon) AS sum FROM '{pattern}' GROUP BY ALL").df()
    lazy = pl.scan_parquet(pattern).group_by("variant", "seed", "attack")
    in_polars = lazy.agg(sum=pl.col("epsilon").sum()).collect()
    files = sorted(tmp_path.glob(pattern))
    assert pq.read_table(files, partitioning=None).schema.equals(EVALUATION_SCHEMA)
    expected = rows.groupby(["variant", "seed", "attack"])["epsilon"].sum()
    for found in (in_duckdb, in_polars.to_pandas()):
        ordered = found.astype({"seed": "int64"}).set_index(["variant", "seed", "attack"]).sort_index()["sum"]
        np.testing.assert_allclose(ordered, expected.sort_index())


def scaled(certificates: pa.Table, factor: float) -> pa.Table:
    """Multiply every radius by a factor."""
    place = certificates.schema.get_field_index("radius")
    radius = pc.multiply(certificates["radius"], factor)
    return certificates.set_column(place, certificates.schema.field(place), radius)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of a synthetic experiment shaped like the default one, with errors."""
    folder = tmp_path_factory.mktemp("results")
    plan = synthetic.plan(seeds=(0, 1, 2), attacks=ATTACKS)
    margin = CertificateDesign("lipschitz", "l2", "model", ("lipschitz",))
    plan = type(plan)(plan.experiment, plan.variants, plan.seeds, plan.attacks, (margin,))
    files = synthetic.write_evaluations(folder / "cells", plan, samples=60, errors={"pgd": 3, "ddn": 1})
    synthetic.combine(files, folder / "evaluations.parquet", design=plan)
    cells = [synthetic.make_cell("certify", plan.experiment, "lipschitz", seed, "lipschitz") for seed in plan.seeds]
    certified = {cell: folder / f"certificate-{cell.seed}.parquet" for cell in cells}
    for cell, path in certified.items():
        # The made-up attacks in L∞ are small in L2, too.
        write_table(path, scaled(synthetic.certificate(cell, samples=60), 0.01), {})
    synthetic.combine(certified, folder / "certificates.parquet", design=plan)
    write_table(folder / "summary.parquet", synthetic.summarize(folder / "evaluations.parquet"), {})
    write_table(folder / "attacks.parquet", measure_attacks(folder / "evaluations.parquet"), {})
    first, second = list(CHECKS)[:2]
    verdicts = [("ecc", 0, first, 0.3, "fail"), ("ecc", 1, first, 0.5, "fail"), ("softmax", 0, second, 0.0, "pass")]
    verdict_rows = [
        {"experiment": "digits", "variant": variant, "seed": seed, "check": check, "norm": "linf"}
        | {"value": value, "threshold": 0.1, "verdict": verdict, "evidence": f"{value} of them", "samples": [seed]}
        for variant, seed, check, value, verdict in verdicts
    ]
    write_table(folder / "diagnostics.parquet", pa.Table.from_pylist(verdict_rows, DIAGNOSTICS_SCHEMA), {})
    return folder


@pytest.fixture
def run_query(results, monkeypatch):
    """Run a query of the page in the results folder and return its result."""
    monkeypatch.chdir(results)

    def run(number: int):
        known: dict = {}
        exec(QUERIES[number - 1], known)
        found = known["found"]
        return found.df() if hasattr(found, "df") else found.to_pandas() if hasattr(found, "to_pandas") else found

    return run


@pytest.fixture
def summary(results):
    """The summary at ε = 0.1 by variant and attack."""
    table = read_table(results / "summary.parquet").to_pandas()
    return table[np.isclose(table["epsilon"], 0.1)].set_index(["variant", "attack"])


def test_there_are_ten_numbered_queries_in_three_languages():
    """Each query is headed by its number and language."""
    headed = re.findall(r"^\*\*(\d+)\. .*\((DuckDB|Polars|pandas)\)", PAGE, flags=re.MULTILINE)
    assert [int(number) for number, _ in headed] == list(range(1, 11))
    assert len(QUERIES) == 10
    assert {language for _, language in headed} == {"DuckDB", "Polars", "pandas"}


def test_accuracies_are_those_of_the_summary(run_query, summary):
    """Queries 1, 2, 6 and 9 equal the summary; samples with an error count as fooled."""
    found = run_query(1).set_index(["variant", "attack"])["robust_accuracy"]
    assert summary["errors"].max() > 0
    assert len(found) == 11
    for key, accuracy in found.items():
        assert accuracy == pytest.approx(summary["robust_accuracy"][key]), key
    for row in run_query(2).itertuples():
        assert row.robust_accuracy == pytest.approx(summary["robust_accuracy"][row.variant, "worst:linf"])
    for row in run_query(6).itertuples():
        expected = summary.loc[(row.variant, "pgd")]
        assert row.mean == pytest.approx(expected["robust_accuracy"])
        # Student's 97.5 % quantile with two degrees of freedom.
        assert (expected["t_high"] - expected["t_low"]) / 2 == pytest.approx(4.302653 * row.std / np.sqrt(3), rel=1e-5)
        assert row.lowest <= row.mean <= row.highest
    for variant, row in run_query(9).iterrows():
        assert row["pgd"] == summary["robust_accuracy"][variant, "pgd"]
        assert np.isnan(row["transfer"]) if variant == "softmax" else row["transfer"] > 0


def test_median_distances_are_those_of_the_summary(run_query, results):
    """Query 3 equals the summary for every variant and attack of the norm."""
    expected = (
        read_table(results / "summary.parquet").to_pandas().groupby(["variant", "attack"])["median_distance"].first()
    )
    found = run_query(3)
    assert len(found) == 8
    for key, value in found.items():
        assert value == pytest.approx(expected[key])


def test_costs_are_those_of_the_table_of_attacks(run_query, results):
    """Query 5 equals the attacks table."""
    key = ["variant", "seed", "attack"]
    expected = read_table(results / "attacks.parquet").to_pandas().set_index(key)
    found = run_query(5).set_index(key)
    assert len(found) == len(expected)
    for name in ("forwards_per_broken", "backwards_per_broken"):
        np.testing.assert_allclose(found[name], expected[name].loc[found.index])


def test_samples_that_all_attacks_fool(run_query, results):
    """Query 4 lists the samples that every attack of the norm fools, with their largest budget."""
    rows = pq.read_table(results / "evaluations.parquet").to_pandas()
    rows = rows[rows["norm"] == "linf"]
    fooled = rows.groupby("index")["epsilon"].agg(lambda budgets: budgets.notna().all())
    found = run_query(4)
    assert 0 < len(found) < len(fooled)
    assert set(found["index"]) == set(fooled.index[fooled])
    largest = rows.groupby("index")["epsilon"].max()
    assert found["needed"].tolist() == [largest[one] for one in found["index"]]


def test_two_attacks_are_counted_together(run_query, results):
    """Query 7 counts every sample of every model once, and its margins are those of each attack."""
    found = run_query(7)
    assert found.sum() == 4 * 3 * 60
    rows = pq.read_table(results / "evaluations.parquet").to_pandas()
    lost = (rows["epsilon"] <= 0.1) | (rows["status"] == "error")
    fooled = rows[(rows["attack"] == "fgsm") & lost].groupby("variant").size()
    assert found.unstack("fgsm")[True].groupby("variant").sum().to_dict() == fooled.to_dict()


def test_refuted_certificates(run_query, results, tmp_path, monkeypatch):
    """Query 8 returns the rows of `find_counterexamples`."""
    assert run_query(8).empty
    false = scaled(pq.read_table(results / "certificates.parquet").replace_schema_metadata(None), 500.0)
    evaluations = pq.read_table(results / "evaluations.parquet")
    write_table(tmp_path / "certificates.parquet", false, {})
    write_table(tmp_path / "evaluations.parquet", evaluations, {})
    monkeypatch.chdir(tmp_path)
    known: dict = {}
    exec(QUERIES[7], known)
    found = known["found"].df()
    assert len(found) > 10
    assert len(found) == len(find_counterexamples(false, evaluations))


def test_flags_are_the_failed_checks(run_query):
    """Query 10 has one row per variant and failed check, of the worst seed."""
    assert run_query(10)[["variant", "seed", "value", "evidence"]].to_numpy().tolist() == [
        ["ecc", 1, 0.5, "0.5 of them"]
    ]
    assert isinstance(run_query(10), pd.DataFrame)
