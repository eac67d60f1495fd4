"""Checkpoint files, read without executing anything: safetensors, and the formats of `torch.save`."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from gauntlet.core.errors import GauntletError, InputError, first_line

_RESAVE = "save the weights alone where it was made: torch.save(model.state_dict(), 'weights.pt')"
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of the zip archives of `torch.save`, and of pickles, its format before torch 1.6."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file: tensors and plain values, nested as in the file. `digest` is the SHA-256 in hex."""

    path: Path
    digest: str
    content: Any


def read_checkpoint(path: Path, *, digest: str | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU, with ``weights_only=True``: what would need a pickle to run code is refused.

    Raises InputError with the file if it is missing, damaged, of another format, or holds anything but tensors and
    plain values; GauntletError if it has another `digest` than the one that is expected.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError("there is no such checkpoint", where=str(path), remedy="name an existing file") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path), remedy="name a file") from error
    actual = hashlib.sha256(data).hexdigest()
    if digest not in (None, actual):
        raise GauntletError("the checkpoint changed after this job was started", where=str(path), remedy="run again")
    return Checkpoint(path, actual, _parse(path, data))


def _parse(path: Path, data: bytes) -> Any:
    if _is_safetensors(data):
        try:
            return safetensors.torch.load(data)
        except (SafetensorError, ValueError, KeyError) as error:
            problem = f"is a damaged safetensors file ({first_line(error)})"
            raise InputError(problem, where=str(path), remedy="copy it again") from error
    if not data.startswith(_TORCH_STARTS):
        problem = "is neither a safetensors file nor one of torch.save"
        raise InputError(problem, where=str(path), remedy=_RESAVE)
    try:
        with warnings.catch_warnings():  # of formats that are refused next
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious file can raise anything
        raise _refusal(path, error) from error


def _is_safetensors(data: bytes) -> bool:
    """Return whether a file begins with a length, which it contains, and a JSON object."""
    return len(data) > 8 and data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= len(data) - 8


def _refusal(path: Path, error: Exception) -> InputError:
    text = str(error)
    if "TorchScript" in text:
        return InputError("is a TorchScript archive, which contains code", where=str(path), remedy=_RESAVE)
    if isinstance(error, pickle.UnpicklingError):
        found = re.search(r"GLOBAL ([\w.]+)", text)
        needed = f" ({found[1]})" if found else ""
        problem = f"contains more than tensors and plain values{needed}: pickles are not executed"
        return InputError(problem, where=str(path), remedy=_RESAVE)
    problem = f"is damaged or no file of torch.save ({type(error).__name__}: {first_line(error)[:200]})"
    return InputError(problem, where=str(path), remedy=_RESAVE)
