"""Robust accuracy of result rows, for notebooks: the definition that summary, tables and figures use."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import pyarrow as pa

from gauntlet.core.attacked_budgets import budgets_from_metadata
from gauntlet.core.budgets import is_close
from gauntlet.core.errors import InputError
from gauntlet.reporting.aggregation.definitions import FOOLED_AT, robust_at
from gauntlet.reporting.aggregation.design import design_from_metadata
from gauntlet.reporting.aggregation.queries import CONTRADICTORY, open_connection

_COLUMNS = ("experiment", "variant", "seed", "attack", "norm", "index", "epsilon", "status", "sample_hash")
_REPEATED = "SELECT 1 FROM rows GROUP BY seed, attack, index, sample_hash HAVING count(*) > 1 LIMIT 1"
_UNEQUAL = """
    SELECT 1 FROM (SELECT seed, index, sample_hash, count(*) AS attacks FROM rows GROUP BY ALL) JOIN
        (SELECT seed, count(DISTINCT attack) AS all_attacks FROM rows GROUP BY seed) USING (seed)
    WHERE attacks < all_attacks LIMIT 1
"""
_ACCURACY = """
    SELECT avg(share) FROM (
        SELECT seed, avg(holds::INT) AS share FROM (
            SELECT seed, index, sample_hash, bool_and({robust}) AS holds FROM rows GROUP BY ALL
        ) GROUP BY seed
    )
"""


def robust_accuracy(rows: Any, epsilon: float) -> float:
    """Return the robust accuracy at a budget: the share of samples that no budget up to `epsilon` fooled, in [0, 1].

    `rows` follow EVALUATION_SCHEMA, as from `gauntlet.evaluate`: a pyarrow table, or a frame of pandas or Polars. A
    misclassified sample is fooled at 0. A row with status error counts as fooled, since the attack may have missed an
    adversarial image there. Of several attacks, in rows of one table, the result is the worst case: a sample counts if
    it is robust in all of its rows, and all attacks must be run on the same samples. A sample is an index and an image,
    so that rows of several calls, each on a part of the images, may be joined. Of several seeds, it is the mean over
    seeds. `epsilon` is in the norm of the rows and in pixel units.

    A bounded attack says nothing about budgets that it was not run at. Warns if none of the attacks was run at
    `epsilon`: the result is then an upper bound, the accuracy at the next smaller attacked budget. A minimum-norm
    attack answers at every budget. Attacked budgets that differ from `epsilon` by less than 0.1 %, such as 8/255 from
    0.0314, are equal to it, and the result is the accuracy at the largest of them, as in tables. The budgets are known
    for a table of `gauntlet.evaluate` and of `evaluations.parquet`; frames of other libraries, and an attack whose rows
    were appended to another's, lack them.

    Raises InputError when there are no rows, columns are missing, a row appears twice, the epsilon of a row contradicts
    its status, attacks are run on different samples, rows are of several experiments, variants or norms, or the budget
    is not a finite number from 0 on.
    """
    if isinstance(epsilon, bool) or not isinstance(epsilon, Real) or not 0 <= float(epsilon) < math.inf:
        raise InputError(f"the budget is {epsilon!r}", remedy="pass a finite number from 0 on")
    table = _table(rows)
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise InputError(f"the rows have no column {missing[0]}", remedy="pass rows of `gauntlet.evaluate`")
    if not len(table):
        raise InputError("there are no rows", remedy="pass rows of `gauntlet.evaluate`")
    for name in ("experiment", "variant", "norm"):
        values = table[name].unique().to_pylist()
        if len(values) > 1:
            raise InputError(f"the rows are of several {name}s: {', '.join(map(str, values))}", remedy="select one")
    # Earlier versions, and some tools, hold budgets as float32, where 0.1 is above 0.1.
    budget = "$epsilon::FLOAT" if pa.types.is_float32(table["epsilon"].type) else "$epsilon"
    query = _ACCURACY.format(robust=robust_at(budget, FOOLED_AT))
    attacked = _attacked(table)
    close = [value for values in attacked.values() for value in values or () if is_close(value, float(epsilon))]
    with open_connection() as connection:
        connection.register("rows", table)
        if connection.sql(_REPEATED).fetchall():
            problem = "a row appears twice: one attack, seed, index and image"
            raise InputError(problem, remedy="pass each row once; name models with `variant=`, and select one")
        for _, seed, attack, index in connection.sql(CONTRADICTORY["attack"]).fetchall():
            problem = f"the epsilon of sample {index} contradicts its status (seed {seed}, attack {attack})"
            raise InputError(problem, remedy="pass rows of `gauntlet.evaluate`")
        if connection.sql(_UNEQUAL).fetchall():
            problem = "the attacks are not run on the same samples, so the rows have no worst case"
            raise InputError(problem, remedy="select an attack, or the samples that all attacks are run on")
        accuracy = connection.sql(query, params={"epsilon": max([float(epsilon), *close])}).fetchall()[0][0]
    # An attack without a grid finds distances, or its budgets are not known.
    if epsilon > 0 and not close and None not in attacked.values():
        listed = ", ".join(map(str, sorted({value for values in attacked.values() for value in values or ()})))
        warnings.warn(
            f"no attack was run at {epsilon} (only at {listed}), so the robust accuracy is at most this",
            UserWarning,
            stacklevel=2,
        )
    return float(accuracy)


def _attacked(table: pa.Table) -> dict[str, Sequence[float] | None]:
    """Return the budgets of each attack in the rows, None for a minimum-norm attack and where they are not known."""
    metadata = table.schema.metadata or {}
    design = design_from_metadata({key.decode(): value.decode() for key, value in metadata.items()})
    designed = {attack.name: attack.epsilons for attack in design.attacks} if design else {}
    known = {**designed, **budgets_from_metadata(metadata)}
    return {name: known.get(name) for name in table["attack"].unique().to_pylist()}


def _table(rows: Any) -> pa.Table:
    """Return rows as a pyarrow table. Raises InputError for other objects."""
    if isinstance(rows, pa.Table):
        return rows
    try:
        return pa.table(rows)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(f"the rows are a {type(rows).__name__}", remedy="pass a table or a data frame") from error
