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
