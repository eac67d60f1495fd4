"""Compare the results of two runs of one experiment, such as before and after a change that must move no number.

    python -m tests.support.compare_results OLD/results/digits NEW/results/digits

Compares every row of every table, column by column, except what differs between any two runs: digests, recipes, times,
versions and commits. Prints one line per table, and exits with 1 if any value differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

RENAMED = {"origins.parquet": {"probe": "name"}}
"""Columns that have another name in newer results."""

VOLATILE = {
    "attacks.parquet": ["seconds", "seconds_per_broken", "library_version"],
    "origins.parquet": ["recipe", "digest", "slice", "inputs", "commit", "dirty", "finished", "seconds", "versions"],
    "diagnostics.parquet": ["evidence"],
    "probes.parquet": ["evidence"],
    "history.parquet": ["seconds", "steps_per_second"],
}
"""Columns that record time or origin, or words."""


def read(path: Path) -> pa.Table:
    """Read a table without its metadata, and without the columns that differ between any two runs."""
    table = pq.ParquetFile(path).read().replace_schema_metadata(None)
    table = table.rename_columns([RENAMED.get(path.name, {}).get(name, name) for name in table.column_names])
    return table.drop_columns([name for name in VOLATILE.get(path.name, []) if name in table.column_names])


def differences(old: pa.Table, new: pa.Table) -> list[str]:
    """List what differs between two tables: columns, number of rows, values."""
    if old.column_names != new.column_names:
        return [f"columns {sorted(set(old.column_names) ^ set(new.column_names)) or 'in another order'}"]
    if len(old) != len(new):
        return [f"{len(old)} rows and {len(new)}"]
    found = []
    for name in old.column_names:
        before, after = old[name].combine_chunks(), new[name].combine_chunks()
        if before.type != after.type:
            found.append(f"{name}: {before.type} and {after.type}")
        elif not before.equals(after):
            pairs = zip(before.to_pylist(), after.to_pylist(), strict=True)
            rows = [row for row, (one, other) in enumerate(pairs) if repr(one) != repr(other)]
            if rows:
                found.append(f"{name}: {len(rows)} rows, first {rows[0]}: {before[rows[0]]} and {after[rows[0]]}")
    return found


def main(old: Path, new: Path) -> int:
    """Compare all tables below two folders."""
    names = {folder: {path.relative_to(folder) for path in folder.rglob("*.parquet")} for folder in (old, new)}
    unequal = 0
    for name in sorted(names[old] | names[new]):
        if name not in names[old] or name not in names[new]:
            print(f"{name}: only in {old if name in names[old] else new}")
            unequal += 1
            continue
        one, other = read(old / name), read(new / name)
        found = differences(one, other)
        unequal += bool(found)
        for line in found:
            print(f"{name}: {line}")
    print(f"{len(names[old] | names[new])} tables, {unequal} differ")
    return 1 if unequal else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
