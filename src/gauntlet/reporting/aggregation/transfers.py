"""Robust accuracy under transferred attacks, by source and target."""

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
"""One row per transferred attack, target variant and budget: `robust_accuracy` of `target` under `attack`.

The attack was computed on the model of `source` of the same training seed; of an ensemble, `source` is the names joined
by +. The other columns are those of SUMMARY_SCHEMA.
"""


def list_transfers(summary: pa.Table, design: ExperimentDesign) -> pa.Table:
    """List the accuracies under transferred attacks: rows of TRANSFERS_SCHEMA, sources and targets as in the design.

    An attack on an ensemble excludes the target, so that its source is the other variants.
    """
    rows: list[dict[str, Any]] = []
    sources_of = {attack.name: attack.sources for attack in design.attacks if attack.sources}
    for row in summary.to_pylist():
        if row["attack"] in sources_of:
            # Ensembles are in the order of the configuration.
            sources = (name for name in design.variants if name in sources_of[row["attack"]] and name != row["variant"])
            shared = {name: row[name] for name in TRANSFERS_SCHEMA.names if name in row}
            rows.append({**shared, "source": "+".join(sources), "target": row["variant"]})
    order = {name: number for number, name in enumerate(design.variants)}
    rows.sort(key=lambda row: order.get(row["source"], len(order)))
    return pa.Table.from_pylist(rows, schema=TRANSFERS_SCHEMA)
