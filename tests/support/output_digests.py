"""Digests of the files of a run, to compare two runs."""

from __future__ import annotations

import pyarrow.parquet as pq
from safetensors.torch import load_file

from gauntlet.core.parquet import VOLATILE_KEY, read_metadata, table_digest
from gauntlet.core.provenance.recipes import read_marks
from gauntlet.core.tensors import tensor_digest


def digests(folder):
    """Return the content of every file of a run, without volatile columns."""
    found = {}
    for path in sorted(folder.glob("data/**/*")) + sorted(folder.glob("results/**/*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        if path.suffix == ".parquet":
            table = pq.ParquetFile(path).read()
            volatile = read_metadata(path).get(VOLATILE_KEY, "").split(",")
            found[name] = table_digest(table.drop_columns([c for c in volatile if c in table.column_names]))
        elif path.suffix == ".safetensors":
            found[name] = tensor_digest(load_file(path))
        elif path.suffix == ".html":
            found[name] = str(read_marks(path))
        else:
            found[name] = path.read_bytes()
    return found


def differing(ours, wanted):
    """Return the names of the files that only one of two runs has, or whose contents differ.

    The contents themselves would hide the names in the output of a failed test.
    """
    return sorted(name for name in ours.keys() | wanted.keys() if ours.get(name) != wanted.get(name))


def rounded_tables(folder):
    """Return every table of a run with its floats rounded to 5 decimals, without volatile columns and origins.

    A batch that was halved gives the same results up to rounding.
    """
    tables = {}
    for path in sorted(folder.glob("results/**/*.parquet")):
        if path.name == "origins.parquet":
            continue
        frame = pq.ParquetFile(path).read().to_pandas()
        volatile = read_metadata(path).get(VOLATILE_KEY, "").split(",")
        frame = frame.drop(columns=[name for name in volatile if name in frame.columns])
        tables[str(path.relative_to(folder))] = frame.round(5).to_csv(float_format="%.5f")
    return tables
