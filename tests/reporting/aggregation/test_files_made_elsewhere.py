"""Files that were not combined here: rows whose numbers would be silently wrong are refused."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import AttackDesign, certified_accuracies, summarize
from tests.support import synthetic

ATTACKS = (AttackDesign("pgd", "linf", (0.01, 0.1)), AttackDesign("fgsm", "linf", (0.1,)))
FEW = AttackDesign("few", "linf", (0.1,), counts=False, samples=9)
DESIGN = synthetic.plan(("softmax", "lipschitz"), (0,), (*ATTACKS, FEW))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment with an attack on nine of its samples."""
    return synthetic.write_experiment(tmp_path_factory.mktemp("made"), DESIGN, samples=40)


def write(path, source, change, *, design=DESIGN):
    """Write the rows of a file, each changed by a function, which returns None for rows to leave out."""
    table = pq.ParquetFile(source).read()
    rows = [changed for row in table.to_pylist() if (changed := change(row)) is not None]
    metadata = design.metadata() if design else None
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema).replace_schema_metadata(metadata), path)
    return path


@pytest.mark.parametrize(
    ("status", "epsilon"),
    [("adversarial", None), ("adversarial", float("nan")), ("already_wrong", None), ("robust", 0.1), ("fooled", 0.1)],
)
@pytest.mark.parametrize("design", [DESIGN, None])
def test_a_budget_that_contradicts_its_status_is_refused(made, tmp_path, design, status, epsilon):
    """A fooled sample without a budget would count as robust at every one."""
    plain = replace(DESIGN, attacks=ATTACKS) if design else None

    def change(row):
        if row["attack"] == "few":
            return None
        is_chosen = (row["variant"], row["attack"], row["index"]) == ("lipschitz", "pgd", 7)
        return row | {"status": status, "epsilon": epsilon} if is_chosen else row

    path = write(tmp_path / "rows.parquet", made.evaluations, change, design=plain)
    expected = r"the epsilon of sample 7 contradicts its status \(variant lipschitz, seed 0, attack pgd\)"
    with pytest.raises(InputError, match=expected):
        summarize(path)


@pytest.mark.parametrize(("status", "radius"), [("certified", float("nan")), ("certified", None), ("sound", 0.1)])
def test_a_radius_that_contradicts_its_status_is_refused(made, tmp_path, status, radius):
    """NaN would count as certified at every radius."""

    def change(row):
        is_chosen = (row["variant"], row["certificate"], row["index"]) == ("lipschitz", "margin", 7)
        return row | {"status": status, "radius": radius} if is_chosen else row

    path = write(tmp_path / "rows.parquet", made.certificates, change)
    with pytest.raises(InputError, match="the radius of sample 7 contradicts its status"):
        certified_accuracies(path)


def test_equal_rows_are_read_with_nan_for_samples_that_no_budget_fooled(made, tmp_path):
    """Some tools have no null: NaN is as good there, and gives the same numbers."""

    def change(row):
        return row | {"epsilon": float("nan")} if row["status"] == "robust" else row

    path = write(tmp_path / "rows.parquet", made.evaluations, change)
    assert summarize(path) == summarize(made.evaluations)


def test_a_worst_case_over_different_samples_is_refused(made, tmp_path):
    """Such as rows of one attack that were filtered; an attack without a part in the worst case may have fewer."""

    def change(row):
        return None if row["attack"] == "pgd" and row["index"] < 5 else row

    expected = r"the attacks in linf are not run on the same samples \(variant lipschitz, seed 0\)"
    with pytest.raises(InputError, match=expected):
        summarize(write(tmp_path / "rows.parquet", made.evaluations, change))
    only = write(tmp_path / "one.parquet", made.evaluations, lambda row: row if row["attack"] == "pgd" else None)
    assert [row["missing"] for row in summarize(only).to_pylist() if row["attack"] == "worst:linf"] == [1] * 4
