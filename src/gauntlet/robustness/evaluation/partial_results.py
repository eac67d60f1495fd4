"""Finished parts of a cell on disk, each whole or absent, so that an interrupted cell resumes after them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel, ValidationError

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.core.tensors import read_tensors, tensor_digest, write_tensors
from gauntlet.robustness.evaluation.shards import SampleRange
from gauntlet.robustness.evaluation.types import EvaluationPart

log = logging.getLogger("gauntlet")

_PART_KEY = "gauntlet.part"


class _PartRecord(BaseModel):
    """Metadata of a part's table; `examples` is the digest of the examples in the file next to it."""

    recipe: str
    examples: str
    precision: str
    seconds: float


class PartialResults:
    """The finished parts of one evaluation, or of one certificate, in a folder of their own.

    Parts with another `recipe`, which decides the rows, or another `schema` are not loaded. Processes that work on
    different shards may share the folder. `loaded_s` are the seconds of work in the parts that were loaded.
    """

    def __init__(self, folder: Path, *, recipe: str, schema: pa.Schema = EVALUATION_SCHEMA) -> None:
        self.folder, self.recipe, self.schema = folder, recipe, schema
        self.loaded_s = 0.0

    def save(self, part: EvaluationPart, *, seconds: float) -> None:
        """Write a part that took `seconds`: the examples, then the table with their digest, which completes it."""
        if part.errors:
            raise ValueError("a part with failed samples is not finished")
        table_path, examples_path = self._paths(part.start, part.stop)
        examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in part.examples.items()}
        record = _PartRecord(
            recipe=self.recipe, examples=tensor_digest(examples), precision=part.precision, seconds=seconds
        )
        write_tensors(examples_path, examples)
        write_table(table_path, part.rows, {_PART_KEY: record.model_dump_json()})

    def load(self) -> list[EvaluationPart]:
        """Load the usable parts, ascending and disjoint; an unusable part is logged and ignored."""
        parts: list[EvaluationPart] = []
        covered, self.loaded_s = 0, 0.0
        for start, stop in self._saved_ranges():
            if start < covered:
                continue
            try:
                parts.append(self._read(start, stop))
            except InputError as error:
                log.warning("samples %d to %d are evaluated again: %s", start, stop - 1, error)
                continue
            covered = stop
        return parts

    def _saved_ranges(self) -> list[SampleRange]:
        """List the ranges in the names of the files; of two with the same start, the longer comes first."""
        names = [re.fullmatch(r"part-(\d+)-(\d+)", path.stem) for path in self.folder.glob("part-*.parquet")]
        ranges = [(int(name[1]), int(name[2])) for name in names if name]
        return sorted(ranges, key=lambda saved: (saved[0], -saved[1]))

    def _read(self, start: int, stop: int) -> EvaluationPart:
        table_path, examples_path = self._paths(start, stop)
        try:
            record = _PartRecord.model_validate_json(read_metadata(table_path).get(_PART_KEY, ""))
        except ValidationError as error:
            raise InputError("the file is not a finished part", where=str(table_path)) from error
        rows = read_table(table_path)
        whole = rows.schema.equals(self.schema) and rows["index"].to_pylist() == list(range(start, stop))
        if record.recipe != self.recipe or not whole:
            raise InputError("the part belongs to another evaluation", where=str(table_path))
        examples = read_tensors(examples_path, expected_digest=record.examples, remedy="")
        arrays = {name: tensor.numpy() for name, tensor in examples.items()}
        self.loaded_s += record.seconds
        return EvaluationPart(start, stop, rows, arrays, record.precision)

    def _paths(self, start: int, stop: int) -> tuple[Path, Path]:
        table_path = self.folder / f"part-{start:09d}-{stop:09d}.parquet"
        return table_path, table_path.with_suffix(".safetensors")
