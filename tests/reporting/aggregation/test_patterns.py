"""Patterns of outcomes over replicates, against NumPy on the whole matrix."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from gauntlet.reporting.aggregation.patterns import read_patterns
from gauntlet.reporting.stats import shared_samples_interval, t_interval


@pytest.mark.parametrize(("replicates", "levels"), [(1, 2), (3, 6), (10, 33), (70, 2), (100, 11)])
def test_levels_of_every_sample_are_recovered(replicates, levels):
    """However many seeds and budgets there are, each sample keeps its levels, and replicates may lack samples."""
    draw = np.random.default_rng(replicates)
    matrix = draw.integers(0, levels, (40, replicates))
    matrix[draw.random(matrix.shape) < 0.1] = -1
    sample, replicate = np.nonzero(matrix >= 0)
    order = draw.permutation(len(sample))
    columns = {"name": ["a"] * len(sample), "index": sample, "replicate": replicate, "level": matrix[sample, replicate]}
    rows = pa.table(columns).take(order)
    other = pa.table({**columns, "name": ["b"] * len(sample)}).slice(0, 1)
    with duckdb.connect() as connection:
        connection.register("rows", pa.concat_tables([rows, other]))
        found = read_patterns(
            lambda sql: connection.sql(sql).to_arrow_table(),
            "SELECT * FROM rows",
            keys=("name",),
            replicates=replicates,
            levels=levels,
        )
    assert set(found) == {("a",), ("b",)}
    patterns = found["a",]
    whole = np.repeat(patterns.levels, patterns.samples, axis=0)
    present = matrix[(matrix >= 0).any(1)]
    assert sorted(map(tuple, whole.tolist())) == sorted(map(tuple, present.tolist()))
    accuracy = patterns.accuracy(0)
    exists = present >= 0
    shares = np.array([np.mean(present[exists[:, one], one] > 0) for one in np.flatnonzero(exists.any(0))])
    assert accuracy.mean == pytest.approx(shares.mean())
    expected = shared_samples_interval(present > 0, exists, np.ones(len(present)))
    assert (accuracy.wilson_low, accuracy.wilson_high) == pytest.approx(tuple(map(float, expected)))
    if replicates > 1:
        assert (accuracy.t_low, accuracy.t_high) == pytest.approx(tuple(map(float, t_interval(shares))))
        assert accuracy.training_std == pytest.approx(shares.std(ddof=1))
