"""Measurements of checks on one model, kept apart from verdicts: a threshold may change without measuring again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

MAX_SAMPLES = 10
"""Maximum number of samples that a row names."""

MEASUREMENT_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("check", pa.string()),
        ("norm", pa.string()),
        ("value", pa.float64()),
        ("count", pa.int64()),
        ("total", pa.int64()),
        ("evidence", pa.string()),
        # Named as parquet names it, so that the type read is the type written.
        ("samples", pa.list_(pa.field("element", pa.int64()))),
    ]
)
"""One row per model and check, and norm where the check has one (null elsewhere).

`value` is the measured value (null: the check does not apply), for most checks a share of the correctly classified
samples; `count` is the number of samples in that share, `total` that of all samples looked at, `samples` the first in
the share by index, `evidence` the result in words.
"""


@dataclass(frozen=True)
class Measurement:
    """Result of one check of one model; see MEASUREMENT_SCHEMA."""

    check: str
    norm: str | None
    value: float | None
    count: int = 0
    evidence: str = ""
    samples: tuple[int, ...] = ()
    total: int = 0

    @classmethod
    def share(cls, check: str, norm: str | None, indices: Sequence[int], total: int, evidence: str) -> Measurement:
        """Build the measurement of a share: samples `indices` out of `total`; the count leads the text.

        Without any sample, the check does not apply.
        """
        if not total:
            return cls.not_applicable(check, norm, "there is no sample to check")
        chosen = tuple(sorted(indices))
        text = f"{len(chosen)} of {total} samples: {evidence}"
        return cls(check, norm, len(chosen) / total, len(chosen), text, chosen[:MAX_SAMPLES], total)

    @classmethod
    def not_applicable(cls, check: str, norm: str | None, reason: str) -> Measurement:
        """Build the measurement of a check that does not apply, with the reason as evidence."""
        return cls(check, norm, None, evidence=reason)


def measurement_table(measurements: Iterable[Measurement], *, experiment: str, variant: str, seed: int) -> pa.Table:
    """Build rows of MEASUREMENT_SCHEMA from the measurements of one model."""
    ids = {"experiment": experiment, "variant": variant, "seed": seed}
    rows = [{**ids, **vars(measurement), "samples": list(measurement.samples)} for measurement in measurements]
    return pa.Table.from_pylist(rows, schema=MEASUREMENT_SCHEMA)
