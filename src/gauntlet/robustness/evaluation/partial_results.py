"""Finished parts of a cell's rows on disk, each whole or absent, so that an interrupted one goes on after them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from gauntlet.core.errors import InputError
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.core.tensors import read_tensors, tensor_digest, write_tensors
from gauntlet.robustness.evaluation.shards import Piece
from gauntlet.robustness.evaluation.types import EvaluationPart

log = logging.getLogger("gauntlet")

_PART_KEY = "gauntlet.part"


class FinishedParts:
    """The finished parts of one evaluation, or of one certificate, in a folder of their own.

    `recipe` is what decides the rows: parts of another recipe are not read, nor are those of another `schema`.
    Processes that work on different shards may share the folder.
    """

    def __init__(self, folder: Path, *, recipe: str, schema: pa.Schema = EVALUATION_SCHEMA) -> None:
        self.folder, self.recipe, self.schema = folder, recipe, schema

    def save(self, part: EvaluationPart) -> None:
        """Write a part; the table comes last and holds the digest of the examples, so it stands for both."""
        if part.errors:
            raise ValueError("a part in which samples went wrong is not finished")
        table, images = self._files(part.start, part.stop)
        examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in part.examples.items()}
        written = {"recipe": self.recipe, "examples": tensor_digest(examples), "precision": part.precision}
        write_tensors(images, examples)
        write_table(table, part.rows, {_PART_KEY: json.dumps(written)})

    def load(self) -> list[EvaluationPart]:
        """Read every part that is whole, in order and disjoint; one that is not is told and passed by."""
        parts: list[EvaluationPart] = []
        covered = 0
        for start, stop in self._pieces():
            if start < covered:
                continue
            try:
                parts.append(self._read(start, stop))
            except InputError as error:
                log.warning("samples %d to %d are evaluated again: %s", start, stop - 1, error)
                continue
            covered = stop
        return parts

    def _pieces(self) -> list[Piece]:
        """List what the names of the files say; of two that begin alike, the longer comes first."""
        found = [path.stem.split("-") for path in self.folder.glob("part-*.parquet")]
        pieces = [
            (int(ids[1]), int(ids[2])) for ids in found if len(ids) == 3 and ids[1].isdecimal() and ids[2].isdecimal()
        ]
        return sorted(pieces, key=lambda piece: (piece[0], -piece[1]))

    def _read(self, start: int, stop: int) -> EvaluationPart:
        table, images = self._files(start, stop)
        try:
            written = json.loads(read_metadata(table).get(_PART_KEY, ""))
            recipe, examples_digest, precision = written["recipe"], written["examples"], written["precision"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("this is no finished part", where=str(table)) from error
        rows = read_table(table)
        whole = rows.schema.equals(self.schema) and rows["index"].to_pylist() == list(range(start, stop))
        if recipe != self.recipe or not whole:
            raise InputError("this is a part of another evaluation", where=str(table))
        examples = read_tensors(images, expected_digest=examples_digest, remedy="")
        arrays = {name: tensor.numpy() for name, tensor in examples.items()}
        return EvaluationPart(start, stop, rows, arrays, precision)

    def _files(self, start: int, stop: int) -> tuple[Path, Path]:
        table = self.folder / f"part-{start:09d}-{stop:09d}.parquet"
        return table, table.with_suffix(".safetensors")
