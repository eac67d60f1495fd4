"""The schema of checkpoints that a variant adopts, or that a training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator, StringConstraints

from gauntlet.config.base import Closed
from gauntlet.config.components import refuse, validate_at
from gauntlet.config.error_texts import found_text

_Text = Annotated[str, StringConstraints(min_length=1)]


class CheckpointFile(Closed):
    """A checkpoint: one file, and the place in it."""

    file: _Text = Field(description="safetensors, or a file of `torch.save`, of which no pickle is executed")
    entry: _Text | None = Field(
        None,
        description="keys that lead to the weights, joined by dots, such as `state_dict`; default: the entry that fits "
        "the network, averaged weights (`ema`, `swa`) first",
    )

    @property
    def path(self) -> Path:
        """The file, with ``~`` replaced by the home folder; relative to the working folder."""
        return Path(self.file).expanduser()


def _validate_file(value: Any) -> CheckpointFile:
    if isinstance(value, CheckpointFile):
        return value
    if not isinstance(value, str | Mapping):
        refuse([((), f"expected a path, or a mapping with the key 'file', got {found_text(value)}")])
    file = CheckpointFile.model_validate({"file": value} if isinstance(value, str) else value)
    try:
        file.path  # noqa: B018 - raises for a user who does not exist
    except RuntimeError:
        key_path = () if isinstance(value, str) else ("file",)
        refuse([(key_path, f"there is no home folder for '{file.file}'; write the whole path")])
    return file


def _validate_files(value: Any) -> tuple[CheckpointFile, ...]:
    """Check one checkpoint, or a list with one for each seed."""
    if not isinstance(value, list | tuple):
        return (_validate_file(value),)
    if not value:
        refuse([((), "the list is empty; name one file per seed")])
    files = tuple(validate_at(index, _validate_file, item) for index, item in enumerate(value))
    for index, file in enumerate(files):
        if file in files[:index]:
            refuse([((index,), f"{file.file} is given twice; name one file per seed")])
    return files


OneCheckpoint = Annotated[CheckpointFile, PlainValidator(_validate_file)]
"""A checkpoint: a path, or a mapping of CheckpointFile."""

Checkpoints = Annotated[tuple[CheckpointFile, ...], PlainValidator(_validate_files)]
"""Checkpoints of a variant's seeds: one or a list."""
