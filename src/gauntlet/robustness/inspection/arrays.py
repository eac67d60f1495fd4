"""Arrays that inspection of a model yields, as one table, so that figures need neither network nor data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gauntlet.core.parquet import read_table

ArrayKind = Literal[
    "activation",
    "activity",
    "class",
    "corner",
    "decision",
    "depth",
    "dots",
    "filter",
    "logic",
    "negative",
    "patch",
    "patch_mean",
    "plane",
    "step",
    "transition",
    "unit",
]
"""Kind of an array.

``activation``: (3, N), points, values and derivatives of the function `name`. ``filter``: (C, h, w), the weights of
unit `number` of the first layer, `name`. ``unit``: (C, h, w), an image that maximizes this unit, cropped to the pixels
that the unit sees. ``class``: (C, H, W), an image that maximizes the logit of class `number`. ``negative``:
(C, H, W), a negative example of the kind `name`. ``transition``: (K, N), the probability of each class at N even points
of the line between two images. ``step``: (C, H, W), an image of that line; `label` is the class at its ends.

``patch_mean``: (C, h, w), the mean of the patches of data that excite unit `number` of the first layer most.
``patch``: (C, h, w), one of these patches, for each group of similar ones. ``activity``: (21,), the shares of the
activations of layer `name` at or below 0, 1/20, ..., 1 of the unit's largest. ``plane``: (S, S), the activation of the
head's input `number` on the plane through three images; ``decision``: (S, S), the predicted class there; ``corner``:
(C, H, W), these images. ``depth``: (2, N), root mean squares of the outputs of 0, ..., N - 1 layers of kind `name`,
with weights of variance 1 and initial ones. ``dots``: (S, S), the output of a unit of kind `name` trained on two
dots; ``logic``: (3, S, S), its activation of the sum, the minimum and the maximum of two inputs.
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
"""One row per array, see ArrayKind; `values` are in row-major order. Images are in [0, 1], weights as they are.

`number` counts from 0 among arrays of a kind. For a unit or a class, `value` is its response to the image and `start`
its response to mid gray; for a step, `value` is the fraction of the line; for a patch, the share of its group; for an
activity, `value` is the share of weak activations and `start` of those that are zero or negative; for a depth, `value`
is the number of layers until an overflow; for dots, the share of points on the right side. Columns that a kind does not
use are null.
"""


@dataclass(frozen=True)
class InspectedArray:
    """One array; see ArrayKind and INSPECTION_SCHEMA."""

    kind: ArrayKind
    name: str
    values: NDArray[np.float32]
    number: int = 0
    label: int | None = None
    start: float | None = None
    value: float | None = None


_FIELDS = tuple(field.name for field in fields(InspectedArray))


def array_table(arrays: Iterable[InspectedArray], *, experiment: str, variant: str, seed: int) -> pa.Table:
    """Build rows of INSPECTION_SCHEMA from the arrays of one model."""
    ids = {"experiment": experiment, "variant": variant, "seed": seed}
    rows = [{**ids, **vars(array), "shape": array.values.shape, "values": array.values.ravel()} for array in arrays]
    return pa.Table.from_pylist(rows, schema=INSPECTION_SCHEMA)


def read_arrays(path: Path, *kinds: ArrayKind) -> list[InspectedArray]:
    """Read the arrays of some kinds, in the order of the table. Raises InputError as `read_table` does."""
    table = read_table(path)
    table = table.filter(pc.is_in(table["kind"], pa.array(kinds)))
    rows = table.select([name for name in _FIELDS if name != "values"]).to_pylist()
    arrays = (
        values.values.to_numpy().reshape(shape.as_py())
        for values, shape in zip(table["values"], table["shape"], strict=True)
    )
    return [InspectedArray(values=values, **row) for values, row in zip(arrays, rows, strict=True)]
