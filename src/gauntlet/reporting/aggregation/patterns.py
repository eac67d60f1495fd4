"""Outcomes of each sample over replicates (training seeds), counted by pattern: intervals need them together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gauntlet.reporting.stats import shared_samples_interval, t_interval

_BITS = 62
"""Bits of an integer that codes the levels of several replicates."""

_PATTERNS = """
    SELECT {keys}, {names}, count(*) AS samples
    FROM (SELECT {keys}, {codes} FROM ({rows}) WHERE replicate IS NOT NULL GROUP BY {keys}, index)
    GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class Accuracy:
    """An accuracy: the mean over replicates, and its intervals and standard deviation; NaN where undefined."""

    mean: float
    wilson_low: float
    wilson_high: float
    t_low: float
    t_high: float
    training_std: float

    def as_row(self, name: str) -> dict[str, float | None]:
        """Return the columns of a table, with the accuracy as `name` and None for NaN."""
        columns = {name: self.mean, **{key: value for key, value in vars(self).items() if key != "mean"}}
        return {key: None if np.isnan(value) else float(value) for key, value in columns.items()}


@dataclass(frozen=True)
class Patterns:
    """Samples by the level of each replicate: `levels` int64 (patterns, replicates), -1 where a replicate lacks them.

    `samples` int64 (patterns,) counts the samples with each pattern.
    """

    levels: NDArray[np.int64]
    samples: NDArray[np.int64]

    def counts(self) -> NDArray[np.int64]:
        """Return the number of samples of each replicate that has any, int64 (replicates with samples,)."""
        counts = self.samples @ (self.levels >= 0)
        return np.asarray(counts[counts > 0])

    def shares(self, level: int) -> NDArray[np.float64]:
        """Return each replicate's share of samples above a level, float64 (replicates with samples,)."""
        counts = self.samples @ (self.levels >= 0)
        return np.asarray((self.samples @ (self.levels > level))[counts > 0] / counts[counts > 0])

    def accuracy(self, level: int) -> Accuracy:
        """Compute the mean over replicates of the share of samples above a level."""
        shares = self.shares(level)
        low, high = shared_samples_interval(self.levels > level, self.levels >= 0, self.samples)
        t_low, t_high = t_interval(shares)
        std = shares.std(ddof=1) if len(shares) > 1 else np.nan
        return Accuracy(float(shares.mean()), float(low), float(high), float(t_low), float(t_high), float(std))


def read_patterns(
    query: Callable[[str], pa.Table], rows: str, *, keys: Sequence[str], replicates: int, levels: int
) -> dict[tuple[str, ...], Patterns]:
    """Count samples by pattern, for each combination of values of the columns `keys`.

    `rows` is SQL with the columns `keys`, `index` (the sample), `replicate` (from 0, below `replicates`) and `level`
    (from 0, below `levels`), one row per sample and replicate; `query` runs SQL. The levels of a sample are the digits
    of a few integers, so that a group of rows needs no list.
    """
    base = levels + 1
    digits = max(1, int(_BITS / np.log2(base)))
    starts = range(0, max(replicates, 1), digits)
    powers = [base**place for place in range(digits)]
    codes = [
        f"sum(CASE WHEN replicate >= {start} AND replicate < {start + digits} "
        f"THEN (level + 1)::BIGINT * {powers}[replicate - {start} + 1] ELSE 0 END)::BIGINT AS code_{start}"
        for start in starts
    ]
    names = [f"code_{start}" for start in starts]
    sql = _PATTERNS.format(keys=", ".join(keys), names=", ".join(names), codes=", ".join(codes), rows=rows)
    table = query(sql)
    samples = table["samples"].to_numpy()
    columns = [table[name].to_numpy()[:, None] // np.asarray(powers) % base - 1 for name in names]
    all_levels = np.concatenate(columns, axis=1)[:, :replicates]
    patterns, start = {}, 0
    # Rows are ordered by key.
    for key, group in itertools.groupby(zip(*(table[name].to_pylist() for name in keys), strict=True)):
        stop = start + sum(1 for _ in group)
        patterns[key] = Patterns(all_levels[start:stop], samples[start:stop])
        start = stop
    return patterns
