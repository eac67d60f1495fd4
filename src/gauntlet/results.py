"""The tables that stages exchange: schemas, and parquet files that know what made them and whether they were edited.

Columns describe one sample of one cell; `index` is the position in the split, `sample_hash` the content of the image,
so that runs join by content. Distances are in pixel units of [0, 1].
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from gauntlet.errors import InputError
from gauntlet.files import atomic_path
from gauntlet.provenance.recipes import DIGEST_KEY, digest_mark

T = TypeVar("T")

VOLATILE_KEY = "gauntlet.volatile"

EVALUATION_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("attack", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("label", pa.int32()),
        ("clean_prediction", pa.int32()),
        ("adversarial_prediction", pa.int32()),
        ("epsilon", pa.float32()),
        ("l0", pa.float32()),
        ("l1", pa.float32()),
        ("l2", pa.float32()),
        ("linf", pa.float32()),
        ("clean_confidence", pa.float32()),
        ("adversarial_confidence", pa.float32()),
        ("forwards", pa.int64()),
        ("backwards", pa.int64()),
        ("zero_gradients", pa.int64()),
        ("nonfinite_gradients", pa.int64()),
        ("status", pa.string()),
        ("sample_hash", pa.string()),
    ]
)
"""One row per sample of one (variant, seed, attack).

`epsilon` is the smallest budget, in the attack's norm, at which the sample is known to be fooled: 0 if it is
misclassified as it is, the measured distance for minimum-norm attacks, the smallest grid value for bounded ones, null
if never. `forwards` and `backwards` are passes of the networks that the attack saw; `zero_gradients` and
`nonfinite_gradients` say how many of its gradients at this sample were zero throughout or not finite. `status` is
adversarial, robust, already_wrong or error; an error never counts as robust.
"""

CERTIFICATE_SCHEMA = pa.schema(
    [
        ("experiment", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("certificate", pa.string()),
        ("norm", pa.string()),
        ("index", pa.int64()),
        ("label", pa.int32()),
        ("clean_prediction", pa.int32()),
        ("clean_confidence", pa.float32()),
        ("radius", pa.float32()),
        ("status", pa.string()),
        ("sample_hash", pa.string()),
    ]
)
"""One row per sample of one (variant, seed, certificate); `radius` is rounded down, 0 unless `status` is certified.

`status` is certified, abstained or already_wrong. `clean_prediction` and `clean_confidence` (the largest probability:
of softmax, or of the sigmoids of a network that has those) are the model's; for a certificate of a classifier of its
own, such as `smoothing`, they are that classifier's, with prediction -1 where it abstains, and the confidence is what
the certificate documents: for `smoothing` the lower bound of the class's probability under noise. Status goes by that
prediction.
"""


def table_digest(table: pa.Table) -> str:
    """Hash a table's schema and values; chunking, compression and metadata do not matter."""
    digest = hashlib.sha256()
    plain = table.replace_schema_metadata(None).combine_chunks()
    digest.update(str(plain.schema).encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        # A copy through `take` drops offsets and padding that slicing leaves in the buffers.
        writer.write_table(plain.take(pa.array(range(len(plain)), pa.int64())) if len(plain) else plain)
    digest.update(sink.getvalue())
    return digest.hexdigest()


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, str], *, volatile: Sequence[str] = ()) -> None:
    """Write a table as parquet, atomically, with what made it and its own digest in the file's metadata.

    `volatile` columns (such as seconds) are measured anew at every making, so the digest leaves them out.
    """
    digest = digest_mark(table_digest(table.drop_columns(list(volatile))))
    entries = {**metadata, DIGEST_KEY: digest, VOLATILE_KEY: ",".join(volatile)}
    with atomic_path(path) as temporary:
        pq.write_table(table.replace_schema_metadata(entries), temporary, compression="zstd")


def read_table(path: Path) -> pa.Table:
    """Read a parquet file that `write_table` made, without its metadata.

    Raises InputError when it is missing, damaged, or its values are not those that were written.
    """
    table = _parquet(path, lambda: pq.ParquetFile(path).read())
    metadata = table.schema.metadata or {}
    volatile = [name for name in metadata.get(VOLATILE_KEY.encode(), b"").decode().split(",") if name]
    plain = table.replace_schema_metadata(None)
    kept = plain.drop_columns([name for name in volatile if name in plain.column_names])
    if metadata.get(DIGEST_KEY.encode(), b"").decode() != digest_mark(table_digest(kept)):
        raise InputError(
            "the values are not those that were written", where=str(path), remedy="delete the file and run again"
        )
    return plain


def read_columns(path: Path, names: Sequence[str]) -> pa.Table:
    """Read some columns of a parquet file, those it has, without holding its values against its digest.

    Raises InputError when the file is missing or damaged.
    """

    def read() -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read(columns=[name for name in names if name in file.schema_arrow.names])

    return _parquet(path, read).replace_schema_metadata(None)


def read_metadata(path: Path) -> dict[str, str]:
    """Read what made a parquet file. Raises InputError when the file is missing or damaged."""
    entries = _parquet(path, lambda: pq.read_schema(path).metadata) or {}
    return {key.decode(): value.decode() for key, value in entries.items() if not key.startswith(b"ARROW:")}


def _parquet(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy="run the stage that makes it") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"this is no whole parquet file ({reason})",
            where=str(path),
            remedy="if a run made it, delete it and run again",
        ) from error
