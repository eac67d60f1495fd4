"""Failure against coverage: curves against counts by hand."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from gauntlet.reporting.aggregation import combine, measure_coverage, open_evaluations
from tests.support import synthetic


@pytest.mark.parametrize("errors", [0, 7])
def test_every_point_of_the_curve_is_a_count(tmp_path, errors):
    """At each threshold: clean images at least as confident, and fooled images at least as confident."""
    plan = synthetic.plan(("softmax", "ecc"), (0, 1), synthetic.ATTACKS[:2])
    files = synthetic.write_evaluations(tmp_path, plan, samples=150, errors={"pgd": errors})
    combine(files, tmp_path / "evaluations.parquet", design=plan)
    frame = pq.read_table(tmp_path / "evaluations.parquet").to_pandas()
    mine = frame[(frame.variant == "ecc") & (frame.attack == "pgd")]
    with open_evaluations(tmp_path / "evaluations.parquet") as evaluations:
        curve = measure_coverage(evaluations, "ecc", "pgd")
        assert measure_coverage(evaluations, "ecc", "cw") is None
    assert len(curve.thresholds) > 90
    assert np.all(np.diff(curve.thresholds) < 0)
    wrong = mine.adversarial_prediction != mine.label
    failed = mine.status == "error"
    for threshold, clean, failure in zip(curve.thresholds, curve.clean, curve.failure, strict=True):
        assert clean == pytest.approx((mine.clean_confidence >= np.float32(threshold)).mean())
        covered = mine.adversarial_confidence >= np.float32(threshold)
        assert failure == pytest.approx((failed | (covered & wrong)).mean())
    assert curve.clean[-1] == 1.0


def test_saturated_confidences_share_a_point(tmp_path):
    """A model that is always certain has one threshold, which covers all images."""
    plan = synthetic.plan(("softmax",), (0,), synthetic.ATTACKS[1:2])
    (cell,) = synthetic.cells(plan)
    rows = synthetic.evaluation(cell, synthetic.ATTACKS[1], samples=50)
    for name in ("clean_confidence", "adversarial_confidence"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), [np.ones(50, np.float32)])
    from gauntlet.core.parquet import write_table

    write_table(tmp_path / "cell.parquet", rows, {})
    combine({cell: tmp_path / "cell.parquet"}, tmp_path / "evaluations.parquet", design=plan)
    with open_evaluations(tmp_path / "evaluations.parquet") as evaluations:
        curve = measure_coverage(evaluations, "softmax", "pgd")
    robust = sum(status == "robust" for status in rows["status"].to_pylist())
    assert (curve.thresholds.tolist(), curve.clean.tolist()) == ([1.0], [1.0])
    assert curve.failure.tolist() == pytest.approx([1 - robust / 50])
