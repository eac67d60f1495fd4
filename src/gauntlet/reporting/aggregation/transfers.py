"""What attacks on one model do to another: the transfer matrix."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from gauntlet.reporting.aggregation.design import ExperimentDesign

TRANSFERS_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("epsilon", pa.float64()),
        ("robust_accuracy", pa.float64()),
        ("wilson_low", pa.float64()),
        ("wilson_high", pa.float64()),
        ("seeds", pa.int64()),
        ("missing", pa.int64()),
        ("errors", pa.int64()),
        ("flags", pa.string()),
    ]
)
"""One row per transferred attack, attacked variant and budget: `robust_accuracy` of `target` under `attack`, which saw
the model of `source` of the same training seed; of an ensemble, the names joined by +. See SUMMARY_SCHEMA.
"""


def list_transfers(summary: pa.Table, design: ExperimentDesign) -> pa.Table:
    """List how every variant withstands attacks on others: rows of TRANSFERS_SCHEMA, sources and targets as planned.

    An attack on an ensemble leaves out the attacked variant, and then has the others as its source.
    """
    rows: list[dict[str, Any]] = []
    seen = {attack.name: attack.sources for attack in design.attacks if attack.sources}
    for row in summary.to_pylist():
        if row["attack"] in seen:
            # Ensembles see their models in the order of the configuration.
            others = (one for one in design.variants if one in seen[row["attack"]] and one != row["variant"])
            told = {name: row[name] for name in TRANSFERS_SCHEMA.names if name in row}
            rows.append({**told, "source": "+".join(others), "target": row["variant"]})
    place = {name: number for number, name in enumerate(design.variants)}
    rows.sort(key=lambda row: place.get(row["source"], len(place)))
    return pa.Table.from_pylist(rows, schema=TRANSFERS_SCHEMA)
