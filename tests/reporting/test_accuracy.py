"""`gauntlet.robust_accuracy`, and the formula of every page, count errors as not robust."""

from __future__ import annotations

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

import gauntlet
from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation import AttackDesign, summarize
from tests.support import synthetic

ATTACKS = (AttackDesign("pgd", "linf", (0.03, 0.1)), AttackDesign("fgsm", "linf", (0.03, 0.1, 0.3)))


NOISE = {"name": "uniform_noise", "norm": "linf", "epsilons": [0.1]}


class First(torch.nn.Module):
    """Network that always predicts class 0."""

    def forward(self, x):
        """Map images to logits."""
        return torch.stack([3 + 0 * x.flatten(1).sum(1), 0 * x.flatten(1).sum(1)], dim=1)


def test_half_of_the_images_not_finite_is_half_robust():
    """An attack returns NaN for half of the images: 0.5 by every documented formula, and a warning."""
    images = torch.full((64, 1, 2, 2), 0.2)
    images[::2] = 0.8
    attack = {"name": "tests.support.cheating_attacks:not_finite_on_bright", "norm": "linf", "epsilons": [0.1]}
    with pytest.warns(UserWarning, match="32 of 64 rows have status error and count as not robust: sample 0"):
        rows = gauntlet.evaluate(First().eval(), images, torch.zeros(64, dtype=torch.int64), attack)
    frame, polars = rows.to_pandas(), pl.from_arrow(rows)
    held = pc.and_(pc.not_equal(rows["status"], "error"), pc.fill_null(pc.greater(rows["epsilon"], 0.1), True))
    sql = "SELECT avg((status <> 'error' AND (epsilon IS NULL OR epsilon > 0.1))::INT) FROM rows"
    not_error, above = pl.col("status") != "error", pl.col("epsilon").is_null() | (pl.col("epsilon") > 0.1)
    shares = {
        "helper": gauntlet.robust_accuracy(rows, 0.1),
        "helper, pandas": gauntlet.robust_accuracy(frame, 0.1),
        "helper, Polars": gauntlet.robust_accuracy(polars, 0.1),
        "SQL": duckdb.sql(sql).fetchall()[0][0],
        "pandas": ((frame["status"] != "error") & (frame["epsilon"].isna() | (frame["epsilon"] > 0.1))).mean(),
        "pyarrow": pc.mean(held.cast(pa.int32())).as_py(),
        "Polars": polars.select((not_error & above).mean()).item(),
    }
    assert shares == dict.fromkeys(shares, 0.5)


def test_it_is_the_number_of_the_summary(tmp_path):
    """For one attack, and for the worst case over attacks, it equals the summary: mean over seeds, errors as fooled."""
    design = synthetic.plan(("softmax", "ecc"), (0, 1, 2), ATTACKS)
    files = synthetic.write_evaluations(tmp_path / "cells", design, samples=80, errors={"pgd": 5})
    synthetic.combine(files, tmp_path / "evaluations.parquet", design=design)
    table = pq.read_table(tmp_path / "evaluations.parquet")
    for row in summarize(tmp_path / "evaluations.parquet").to_pylist():
        chosen = table.filter(pc.equal(table["variant"], row["variant"]))
        if not row["attack"].startswith("worst:"):
            chosen = chosen.filter(pc.equal(chosen["attack"], row["attack"]))
        assert gauntlet.robust_accuracy(chosen, row["epsilon"]) == pytest.approx(row["robust_accuracy"]), row["attack"]
    assert len(table) == 2 * 3 * 2 * 80


@pytest.mark.parametrize(("status", "epsilon"), [("adversarial", None), ("already_wrong", None), ("robust", 0.1)])
def test_a_budget_that_contradicts_its_status_is_refused(status, epsilon):
    """A fooled or misclassified sample without a budget would count as robust."""
    rows = gauntlet.evaluate(First().eval(), torch.full((4, 1, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64), NOISE)
    changed = [row | {"status": status, "epsilon": epsilon} if row["index"] == 2 else row for row in rows.to_pylist()]
    assert gauntlet.robust_accuracy(rows, 0.1) == 1
    with pytest.raises(InputError, match="the epsilon of sample 2 contradicts its status"):
        gauntlet.robust_accuracy(pa.Table.from_pylist(changed, schema=rows.schema), 0.1)


def test_rows_that_are_no_rows_of_one_model_are_refused():
    """Several variants or norms, no rows, and other objects."""
    rows = synthetic.evaluation(synthetic.cells(synthetic.plan(("softmax",), (0,), ATTACKS))[0], ATTACKS[0], samples=5)
    other = rows.set_column(rows.schema.get_field_index("norm"), "norm", pa.array(["l2"] * 5))
    with pytest.raises(InputError, match="of several norms: linf, l2"):
        gauntlet.robust_accuracy(pa.concat_tables([rows, other]), 0.1)
    with pytest.raises(InputError, match="there are no rows"):
        gauntlet.robust_accuracy(rows.slice(0, 0), 0.1)
    with pytest.raises(InputError, match="no column status"):
        gauntlet.robust_accuracy(rows.drop_columns(["status"]), 0.1)
    with pytest.raises(InputError, match="the rows are a float"):
        gauntlet.robust_accuracy(0.3, 0.1)
    assert gauntlet.robust_accuracy(pd.DataFrame(rows.to_pandas()), 0.1) == gauntlet.robust_accuracy(rows, 0.1)


def test_rows_of_several_calls_may_be_joined_and_repeated_rows_are_refused():
    """Each call numbers its images from 0: a sample is an index and an image."""
    images = torch.rand(12, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0] * 6 + [1] * 6)
    attack = NOISE
    parts = [gauntlet.evaluate(First().eval(), images[k::2], labels[k::2], attack) for k in (0, 1)]
    halves = [gauntlet.evaluate(First().eval(), images[k : k + 6], labels[k : k + 6], attack) for k in (0, 6)]
    assert [gauntlet.robust_accuracy(rows, 0.1) for rows in (*parts, *halves)] == [0.5, 0.5, 1.0, 0.0]
    for both in (parts, halves):
        assert gauntlet.robust_accuracy(pa.concat_tables(both), 0.1) == 0.5
    with pytest.raises(InputError, match="a row appears twice"):
        gauntlet.robust_accuracy(pa.concat_tables([parts[0], parts[0]]), 0.1)


def test_attacks_on_different_samples_have_no_worst_case():
    """Of one seed, every attack must be run on the same samples; seeds may differ."""
    cells = synthetic.cells(synthetic.plan(("softmax",), (0, 1), ATTACKS))
    rows = [
        synthetic.evaluation(cell, attack, samples=20)
        for cell in cells
        for attack in ATTACKS
        if attack.name == cell.name
    ]
    assert 0 <= gauntlet.robust_accuracy(pa.concat_tables(rows), 0.1) <= 1
    assert 0 <= gauntlet.robust_accuracy(pa.concat_tables([rows[0], rows[2].slice(0, 7)]), 0.1) <= 1
    for few in ([rows[0], rows[1].slice(0, 7)], [rows[0].slice(0, 7), rows[1].slice(7)]):
        with pytest.raises(InputError, match="not run on the same samples"):
            gauntlet.robust_accuracy(pa.concat_tables(few), 0.1)


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf"), "0.03", None, True])
def test_a_budget_is_a_number_from_zero_on(epsilon):
    """Others are refused in one line."""
    rows = gauntlet.evaluate(First().eval(), torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), NOISE)
    with pytest.raises(InputError, match="the budget is"):
        gauntlet.robust_accuracy(rows, epsilon)


def test_budgets_in_float32_are_compared_as_such():
    """Rows of earlier versions and frames of float32 give the same number as those of float64."""
    attack = {**NOISE, "epsilons": [0.1, 0.3]}
    rows = gauntlet.evaluate(First().eval(), torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 0, 1]), attack)
    statuses = pa.array(["robust", "adversarial", "adversarial", "already_wrong"])
    rows = rows.set_column(rows.schema.get_field_index("status"), "status", statuses)
    budgets = pa.array([None, 0.1, 0.3, 0.0], pa.float64())
    place = rows.schema.get_field_index("epsilon")
    for kind in (pa.float64(), pa.float32()):
        table = rows.set_column(place, "epsilon", budgets.cast(kind))
        assert [gauntlet.robust_accuracy(table, epsilon) for epsilon in (0.0, 0.1, 0.3)] == [0.75, 0.5, 0.25]


def test_a_budget_that_was_not_attacked_has_a_warning_that_names_those_that_were():
    """Between, below and above the budgets of a bounded attack; rounding is no other budget, and 0 needs no attack."""
    images, labels = torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 0, 0, 1])
    rows = gauntlet.evaluate(First().eval(), images, labels, {**NOISE, "epsilons": [0.1, 0.3]})
    for epsilon in (0.0299, 0.0999, 0.2, 1.0):
        with pytest.warns(UserWarning, match=rf"no attack was run at {epsilon} \(only at 0.1, 0.3\)"):
            assert gauntlet.robust_accuracy(rows, epsilon) == 0.75
        with pytest.warns(UserWarning, match="no attack was run at"):
            gauntlet.robust_accuracy(rows.filter(pc.equal(rows["label"], 0)), epsilon)
    for epsilon in (0, 0.1, 0.3, 0.1 + 2e-17, 0.3 * (1 + 1e-9)):
        assert gauntlet.robust_accuracy(rows, epsilon) == 0.75


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("epsilon", [8 / 255, 0.0314, 0.03137])
def test_close_budgets_of_two_attacks_are_one_however_they_are_written(tmp_path, epsilon):
    """As in the tables; at 8/255 the successes of the attack at 0.0314 had not counted, without a warning."""
    attacks = (AttackDesign("pgd", "linf", (0.0314,)), AttackDesign("fgsm", "linf", (8 / 255,)))
    design = synthetic.plan(("softmax",), (0,), attacks)
    files = synthetic.write_evaluations(tmp_path / "cells", design, samples=60)
    synthetic.combine(files, tmp_path / "evaluations.parquet", design=design)
    table = pq.read_table(tmp_path / "evaluations.parquet")
    summary = summarize(tmp_path / "evaluations.parquet").to_pylist()
    for rows, name in (
        (table, "worst:linf"),
        *((table.filter(pc.equal(table["attack"], n)), n) for n in ("pgd", "fgsm")),
    ):
        (expected,) = [row["robust_accuracy"] for row in summary if row["attack"] == name]
        assert gauntlet.robust_accuracy(rows, epsilon) == pytest.approx(expected)


def test_attacks_that_answer_everywhere_have_no_warning(tmp_path):
    """A minimum-norm attack in a file of the pipeline, alone or with a bounded one; the bounded one alone warns."""
    attacks = (AttackDesign("pgd", "l2", (0.3, 0.5)), AttackDesign("ddn", "l2", None))
    design = synthetic.plan(("softmax",), (0,), attacks)
    files = synthetic.write_evaluations(tmp_path / "cells", design, samples=20)
    synthetic.combine(files, tmp_path / "evaluations.parquet", design=design)
    table = pq.read_table(tmp_path / "evaluations.parquet")
    bounded = table.filter(pc.equal(table["attack"], "pgd"))
    for rows in (table, table.filter(pc.equal(table["attack"], "ddn"))):
        assert 0 <= gauntlet.robust_accuracy(rows, 0.4) <= 1
    assert 0 <= gauntlet.robust_accuracy(bounded, 0.5) <= 1
    with pytest.warns(UserWarning, match=r"no attack was run at 0\.4 \(only at 0\.3, 0\.5\)"):
        gauntlet.robust_accuracy(bounded, 0.4)
