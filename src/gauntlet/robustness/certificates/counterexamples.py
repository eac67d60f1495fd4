"""Check of certificates against attacks: a radius above a distance at which the same model was fooled is false."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

_SAMPLE = ["experiment", "variant", "seed", "index", "sample_hash"]

COUNTEREXAMPLE_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("certificate", pa.string()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("sample_hash", pa.string()),
        ("radius", pa.float64()),
        ("distance", pa.float64()),
    ]
)
"""One row per certified sample and attack that refutes the certificate."""


def find_counterexamples(certificates: pa.Table, evaluations: pa.Table, *, exclude: Collection[str] = ()) -> pa.Table:
    """Find the certificates that an attack refutes: rows of COUNTEREXAMPLE_SCHEMA, worst first; empty when all hold.

    Rows of CERTIFICATE_SCHEMA and EVALUATION_SCHEMA are joined by model (experiment, variant, seed) and sample (index
    and sample_hash: one image may occur twice, with two labels). The radius is compared with the measured distance, in
    the certificate's norm, of every image that fooled the model, whatever the attack's own norm. A sample that is
    misclassified as it is was not attacked and refutes nothing. `exclude` names the certificates of other classifiers
    than the attacked models (tag `certifies`), which no attack on a model can refute.
    """
    counterexamples = []
    of_model = pc.invert(pc.is_in(certificates["certificate"], pa.array(list(exclude), pa.string())))
    certified = certificates.filter(pc.and_(of_model, pc.equal(certificates["status"], "certified")))
    fooled = evaluations.filter(pc.equal(evaluations["status"], "adversarial"))
    for norm in pc.unique(certified["norm"]).to_pylist():
        radii = certified.filter(pc.equal(certified["norm"], norm)).select([*_SAMPLE, "certificate", "norm", "radius"])
        sizes = fooled.select([*_SAMPLE, "attack", norm])
        sizes = sizes.rename_columns([*_SAMPLE, "attack", "distance"])
        pairs = radii.combine_chunks().join(sizes.combine_chunks(), keys=_SAMPLE, join_type="inner")
        refuted = pairs.filter(pc.greater(pairs["radius"], pairs["distance"]))
        counterexamples.append(refuted.select(COUNTEREXAMPLE_SCHEMA.names))
    if not counterexamples:
        return COUNTEREXAMPLE_SCHEMA.empty_table()
    table = pa.concat_tables(counterexamples).cast(COUNTEREXAMPLE_SCHEMA).combine_chunks()
    excess = pc.subtract(table["radius"], table["distance"])
    columns = ("experiment", "variant", "seed", "certificate", "attack", "index")
    order = pc.sort_indices(
        table.append_column("excess", excess),
        sort_keys=[("excess", "descending"), *((column, "ascending") for column in columns)],
    )
    return table.take(order)
