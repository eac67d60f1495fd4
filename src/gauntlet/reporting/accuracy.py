"""Robust accuracy of result rows, for notebooks: the definition that summary, tables and figures use."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation.definitions import is_robust

_COLUMNS = ("variant", "seed", "norm", "index", "epsilon", "status")


def robust_accuracy(rows: Any, epsilon: float) -> float:
    """Return the robust accuracy at a budget: the share of samples that no budget up to `epsilon` fooled, in [0, 1].

    `rows` follow EVALUATION_SCHEMA, as from `gauntlet.evaluate`: a pyarrow table, or a frame of pandas or Polars. A
    misclassified sample is fooled at 0. A row with status error counts as fooled, since the attack may have missed an
    adversarial image there. Of several attacks, in rows of one table, the result is the worst case: a sample counts if
    it is robust in all of its rows. Of several seeds, it is the mean over seeds. `epsilon` is in the norm of the rows
    and in pixel units; a bounded attack knows nothing of budgets that it was not run at.

    Raises InputError when there are no rows, columns are missing, or rows are of several variants or norms.
    """
    table = _table(rows)
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise InputError(f"the rows have no column {missing[0]}", remedy="pass rows of `gauntlet.evaluate`")
    if not len(table):
        raise InputError("there are no rows", remedy="pass rows of `gauntlet.evaluate`")
    for name in ("variant", "norm"):
        values = table[name].unique().to_pylist()
        if len(values) > 1:
            raise InputError(f"the rows are of several {name}s: {', '.join(map(str, values))}", remedy="select one")
    found = np.asarray(table["epsilon"].to_pandas(), dtype=np.float64)
    failed = np.asarray(table["status"].to_pylist()) == "error"
    fooled_at = np.where(failed, 0.0, np.where(np.isnan(found), np.inf, found))
    samples, position = np.unique(
        np.stack([table["seed"].to_numpy(), table["index"].to_numpy()]), axis=1, return_inverse=True
    )
    robust = np.ones(samples.shape[1], dtype=bool)
    np.logical_and.at(robust, position.reshape(-1), is_robust(fooled_at, epsilon))
    return float(np.mean([robust[samples[0] == seed].mean() for seed in np.unique(samples[0])]))


def _table(rows: Any) -> pa.Table:
    """Return rows as a pyarrow table. Raises InputError for other objects."""
    if isinstance(rows, pa.Table):
        return rows
    try:
        return pa.table(rows)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(f"the rows are a {type(rows).__name__}", remedy="pass a table or a data frame") from error
