"""Holds certificates against attacks: a radius above a distance at which the same model was fooled is false."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

_CELL = ["experiment", "variant", "seed", "sample_hash"]

VIOLATION_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("certificate", pa.string()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("sample_hash", pa.string()),
        ("radius", pa.float32()),
        ("distance", pa.float32()),
    ]
)
"""One row per certified sample and attack that refutes the certificate; `index` is the sample's in the evaluation."""


def violations(certificates: pa.Table, evaluations: pa.Table, *, of_others: Collection[str] = ()) -> pa.Table:
    """Find the certificates that an attack refutes: rows of VIOLATION_SCHEMA, worst first; empty when all hold.

    Rows of CERTIFICATE_SCHEMA and EVALUATION_SCHEMA belong together when model (experiment, variant, seed) and image
    (sample_hash) are the same. Compared is the radius with the measured distance, in the certificate's norm, of every
    image that fooled the model, whatever norm its attack worked in. A certified sample that an evaluation found
    misclassified as it is counts as fooled at distance 0. The certificates named in `of_others` are those of other
    classifiers than the attacked models (tag `certifies`): no attack on a model can refute them, so they are left out.
    """
    found = []
    of_model = pc.invert(pc.is_in(certificates["certificate"], pa.array(list(of_others), pa.string())))
    certified = certificates.filter(pc.and_(of_model, pc.equal(certificates["status"], "certified")))
    fooled = evaluations.filter(pc.is_in(evaluations["status"], pa.array(["adversarial", "already_wrong"])))
    for norm in pc.unique(certified["norm"]).to_pylist():
        radii = certified.filter(pc.equal(certified["norm"], norm)).select([*_CELL, "certificate", "norm", "radius"])
        sizes = fooled.select([*_CELL, "attack", "index", norm]).rename_columns([*_CELL, "attack", "index", "distance"])
        pairs = radii.combine_chunks().join(sizes.combine_chunks(), keys=_CELL, join_type="inner")
        found.append(pairs.filter(pc.greater(pairs["radius"], pairs["distance"])).select(VIOLATION_SCHEMA.names))
    if not found:
        return VIOLATION_SCHEMA.empty_table()
    table = pa.concat_tables(found).cast(VIOLATION_SCHEMA).combine_chunks()
    excess = pc.subtract(table["radius"], table["distance"])
    order = pc.sort_indices(
        table.append_column("excess", excess),
        sort_keys=[
            ("excess", "descending"),
            ("experiment", "ascending"),
            ("variant", "ascending"),
            ("seed", "ascending"),
            ("certificate", "ascending"),
            ("attack", "ascending"),
            ("index", "ascending"),
        ],
    )
    return table.take(order)
