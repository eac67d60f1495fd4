"""Named tensors in safetensors files, identified by a digest of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from gauntlet.core.errors import InputError
from gauntlet.core.files import canonical_json, write_bytes

_METADATA_KEY = "gauntlet"


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash names, dtypes, shapes and values, in the order of the names; device and memory format do not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically; the same tensors and metadata give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One key: the library writes several in an order that changes from run to run.
    header = {_METADATA_KEY: canonical_json(dict(metadata))} if metadata else None
    write_bytes(path, safetensors.torch.save(plain, header))


def read_tensors(path: Path, *, expected_digest: str, remedy: str) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises InputError with the file and `remedy` when it is missing, truncated, no safetensors file (a pickle is never
    opened), or its content does not have the expected digest.
    """
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise InputError("the file is missing", where=str(path), remedy=remedy) from error
    except (SafetensorError, OSError, ValueError) as error:
        problem = "is damaged or no safetensors file (pickles are refused)"
        raise InputError(problem, where=str(path), remedy=remedy) from error
    if tensor_digest(tensors) != expected_digest:
        problem = "the content does not match its manifest"
        raise InputError(problem, where=str(path), remedy=remedy)
    return tensors
