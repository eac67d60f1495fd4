"""What inspection shows of a model, as one table of arrays: figures read it and need neither network nor data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gauntlet.core.parquet import read_table

Kind = Literal["activation", "filter", "unit", "class", "negative", "transition", "step"]

KINDS = get_args(Kind)
"""What an array is.

``activation``: (3, N), points, values and derivatives of the function `name`. ``filter``: (C, h, w), the weights of
unit `number` of the first layer, `name`. ``unit``: (C, h, w), what excites that unit, of the pixels that it sees.
``class``: (C, H, W), what excites the score of class `number`. ``negative``: (C, H, W), a negative example of the kind
`name`. ``transition``: (K, N), the probability of each class at N even points of the line between two images.
``step``: (C, H, W), an image of that line; `label` is the class at its ends.
"""

INSPECTION_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("number", pa.int32()),
        ("label", pa.int32()),
        ("start", pa.float32()),
        ("value", pa.float32()),
        # Named as parquet names it, so that the type read is the type written.
        ("shape", pa.list_(pa.field("element", pa.int32()))),
        ("values", pa.list_(pa.field("element", pa.float32()))),
    ]
)
"""One row per array, see KINDS; `values` are in row-major order. Images are in [0, 1], weights as they are.

`number` counts from 0 among arrays of a kind. `value` is, of what excites a unit or a class, its response there, and
`start` that to mid grey; of a step, the share of the way. What a kind has no use for is null.
"""


@dataclass(frozen=True, eq=False)
class InspectedArray:
    """One array of an inspection; see KINDS and INSPECTION_SCHEMA."""

    kind: Kind
    name: str
    values: NDArray[np.float32]
    number: int = 0
    label: int | None = None
    start: float | None = None
    value: float | None = None


_FIELDS = tuple(field.name for field in fields(InspectedArray))


def array_table(arrays: Iterable[InspectedArray], *, experiment: str, variant: str, seed: int) -> pa.Table:
    """Write what is shown of one model as rows of INSPECTION_SCHEMA."""
    whose = {"experiment": experiment, "variant": variant, "seed": seed}
    rows = [{**whose, **vars(one), "shape": one.values.shape, "values": one.values.ravel()} for one in arrays]
    return pa.Table.from_pylist(rows, schema=INSPECTION_SCHEMA)


def read_arrays(path: Path, *kinds: Kind) -> list[InspectedArray]:
    """Read the arrays of some kinds, in the order of the table. Raises InputError as `read_table` does."""
    table = read_table(path)
    table = table.filter(pc.is_in(table["kind"], pa.array(kinds)))
    rows = table.select([name for name in _FIELDS if name != "values"]).to_pylist()
    arrays = (
        values.values.to_numpy().reshape(shape.as_py())
        for values, shape in zip(table["values"], table["shape"], strict=True)
    )
    return [InspectedArray(values=values, **row) for values, row in zip(arrays, rows, strict=True)]
