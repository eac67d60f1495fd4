"""What a check measured on one model, before anyone judges it: thresholds may change without measuring again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

MOST_SAMPLES = 10
"""How many of the samples concerned a row names."""

MEASUREMENT_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("check", pa.string()),
        ("norm", pa.string()),
        ("value", pa.float64()),
        ("count", pa.int64()),
        ("evidence", pa.string()),
        # Named as parquet names it, so that the type read is the type written.
        ("samples", pa.list_(pa.field("element", pa.int64()))),
    ]
)
"""One row per model and check, and norm where the check has one (null elsewhere).

`value` is what was measured (null: the check does not apply), mostly a share of the correctly classified samples;
`count` is the number of samples of which it is so, `samples` the first of them by index, `evidence` the whole in words.
"""


@dataclass(frozen=True)
class Measurement:
    """One check on one model; see MEASUREMENT_SCHEMA."""

    check: str
    norm: str | None
    value: float | None
    count: int = 0
    evidence: str = ""
    samples: tuple[int, ...] = ()


def share(check: str, norm: str | None, concerned: Sequence[int], of: int, evidence: str) -> Measurement:
    """Measure a share: `concerned` are the indices of samples of which it is so, out of `of`; the count leads the text.

    Without any sample to look at, the check does not apply.
    """
    if not of:
        return inapplicable(check, norm, "no sample to look at")
    chosen = tuple(sorted(concerned))
    text = f"{len(chosen)} of {of} samples: {evidence}"
    return Measurement(check, norm, len(chosen) / of, len(chosen), text, chosen[:MOST_SAMPLES])


def inapplicable(check: str, norm: str | None, reason: str) -> Measurement:
    """Say that a check does not apply, and why."""
    return Measurement(check, norm, None, evidence=reason)


def measurement_table(rows: Iterable[Measurement], *, experiment: str, variant: str, seed: int) -> pa.Table:
    """Write measurements of one model as rows of MEASUREMENT_SCHEMA."""
    whose = {"experiment": experiment, "variant": variant, "seed": seed}
    return pa.Table.from_pylist(
        [{**whose, **vars(row), "samples": list(row.samples)} for row in rows], schema=MEASUREMENT_SCHEMA
    )
