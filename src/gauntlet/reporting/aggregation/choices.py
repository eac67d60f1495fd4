"""Table of the candidates of chosen models, from the records in the models' manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from gauntlet.core.files import canonical_json
from gauntlet.core.schemas import CHOICE_SCHEMA
from gauntlet.reporting.aggregation.cell_ids import C


def choice_table(records: Mapping[C, Mapping[str, Any]], drawn: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return the rows of CHOICE_SCHEMA of chosen models, from the record of each choice.

    `drawn` maps candidates of random searches to their settings.
    """
    rows = [
        {**_row(model, record, candidate), "settings": _as_json(drawn.get(candidate["variant"]))}
        for model, record in records.items()
        for candidate in record.get("candidates", ())
    ]
    return pa.Table.from_pylist(rows, CHOICE_SCHEMA)


def _as_json(settings: Mapping[str, Any] | None) -> str | None:
    return None if settings is None else canonical_json(dict(settings))


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
