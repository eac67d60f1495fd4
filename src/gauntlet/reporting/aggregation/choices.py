"""Table of the candidates of chosen models, from the records in the models' manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from gauntlet.core.schemas import CHOICE_SCHEMA
from gauntlet.reporting.aggregation.cell_ids import C


def choice_table(records: Mapping[C, Mapping[str, Any]]) -> pa.Table:
    """Return the rows of CHOICE_SCHEMA of chosen models, from the record of each choice."""
    rows = [
        _row(model, record, candidate)
        for model, record in records.items()
        for candidate in record.get("candidates", ())
    ]
    return pa.Table.from_pylist(rows, CHOICE_SCHEMA)


def _row(model: C, record: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, Any]:
    figures = {key: value for key, value in candidate.items() if key != "variant"}
    return {
        "experiment": model.experiment,
        "variant": model.variant,
        "seed": model.seed,
        "candidate": candidate["variant"],
        "chosen": candidate["variant"] == record["chosen"],
        "by": record["by"],
        "over": record["over"],
        **figures,
    }
