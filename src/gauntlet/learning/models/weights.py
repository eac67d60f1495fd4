"""Stored networks: weights as safetensors, and a manifest with the network's description and the weights' digest.

The manifest also has the network's logits for fixed images, which are compared whenever it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from gauntlet.core.device_errors import device_error
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.files import read_json, write_json
from gauntlet.core.provenance.recipes import DIGEST_KEY, digest_mark
from gauntlet.core.tensors import read_tensors, tensor_digest, write_tensors
from gauntlet.learning.models.build import rebuild
from gauntlet.learning.models.network import Network, NetworkDescription
from gauntlet.learning.models.reference import COUNT, Rows, check_reference, reference_rows
from gauntlet.registry import LOSSES, MODELS, PARTS, Registry, Spec

FORMAT = 1
_REMEDY = "train it again"


class ModelManifest(BaseModel):
    """Content of a stored network's ``manifest.json``: its description, the digest of its weights, and its loss.

    `loss` is the loss that the network was trained with, and `precision` that of the passes of its training; both are
    None where they are not known. `reference` is its logits for the
    images of `gauntlet.learning.models.reference`, None in models of earlier versions, or where they are not finite.
    `warnings` are sentences about the model that belong to its numbers. The manifest of a model that was chosen from
    several also has `choice`, the record of the choice, which no network depends on.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    format: int
    digest: str
    architecture: dict[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int = 0
    exported: bool
    loss: dict[str, Any] | None = None
    precision: str | None = None
    reference: Rows | None = None
    warnings: tuple[str, ...] = ()


def save_model(
    network: Network, folder: Path, metadata: Mapping[str, str] | None = None, *, warnings: Sequence[str] = ()
) -> str:
    """Write a network from `build`, exported to plain layers, and return the digest of its weights.

    `metadata` is written to ``model.safetensors``, `warnings` to the manifest if there are any. ``manifest.json`` is
    written last and contains neither time nor host, so that equal networks have equal manifests. The network does not
    change. Raises ValueError for a network that is not from `build`.
    """
    plain = network.export()
    if plain.description is None:
        raise ValueError("only a network from gauntlet.learning.models.build can be saved")
    description = plain.description
    tensors = dict(plain.state_dict())
    digest = tensor_digest(tensors)
    reference = reference_rows(plain, lambda: _rebuilt(description, tensors, folder))
    # With the digest in the metadata, a manifest of other weights is detected without hashing them.
    digest_metadata = {DIGEST_KEY: digest_mark(digest.removeprefix("sha256:"))}
    write_tensors(folder / "model.safetensors", tensors, {**(metadata or {}), **digest_metadata})
    manifest = ModelManifest(
        format=FORMAT,
        digest=digest,
        architecture=description.architecture.as_dict(),
        image_shape=description.image_shape,
        num_classes=description.num_classes,
        mean=description.mean,
        std=description.std,
        seed=description.seed,
        exported=description.exported,
        loss=None if plain.training_loss is None else plain.training_loss.as_dict(),
        precision=plain.training_precision,
        reference=reference,
        warnings=tuple(warnings),
    )
    write_json(folder / "manifest.json", manifest.model_dump(mode="json", exclude=set() if warnings else {"warnings"}))
    return digest


def load_model(folder: Path | str, device: str | torch.device = "cpu") -> Network:
    """Load a network written by `save_model`, in evaluation mode, on `device`.

    Raises InputError that names the file if one is missing, damaged, a pickle, or does not fit the manifest; or the
    folder, if the network that is built now has other logits than the one that was stored.
    """
    folder = Path(folder)
    stored = _load_manifest(folder)
    tensors = read_tensors(folder / "model.safetensors", expected_digest=stored.digest, remedy=_REMEDY)
    network = _rebuilt(stored.description, tensors, folder)
    name = stored.description.architecture.name
    if stored.reference is not None:
        try:
            check_reference(network, stored.reference, name=name, where=str(folder))
        except GauntletError:
            raise
        except Exception as error:  # a user's network may raise anything
            problem = f"{name} cannot classify images: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise device_error(error) or InputError(problem, where=str(folder), remedy=_REMEDY) from error
    network.training_loss, network.training_precision = stored.loss, stored.precision
    return network.to(device).eval()


def _rebuilt(description: NetworkDescription, tensors: Mapping[str, Tensor], folder: Path) -> Network:
    """Build a network by its description, with the weights `tensors` of a folder, in evaluation mode on the CPU."""
    network = rebuild(description).eval()
    if description.exported:
        network = network.export()
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    stored = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != stored:
        differing = sorted(name for name in expected.keys() | stored.keys() if expected.get(name) != stored.get(name))
        problem = f"the weights do not fit {description.architecture.name}: {', '.join(differing[:3])}"
        raise InputError(problem, where=str(folder / "model.safetensors"), remedy=_REMEDY)
    network.load_state_dict(tensors)
    return network.eval()


def load_model_manifest(folder: Path) -> tuple[NetworkDescription, str]:
    """Load the description of a stored network and its weights' digest. Raises InputError as `load_model` does."""
    stored = _load_manifest(folder)
    return stored.description, stored.digest


class _Stored(NamedTuple):
    """Checked content of a manifest."""

    description: NetworkDescription
    digest: str
    loss: Spec | None
    precision: str | None
    reference: Rows | None


def _load_manifest(folder: Path) -> _Stored:
    path = folder / "manifest.json"
    manifest = read_json(
        path, ModelManifest, kind="manifest of a stored network", missing="run `gauntlet train`", remedy=_REMEDY
    )
    if manifest.format != FORMAT:
        raise InputError("was written by another version", where=str(path), remedy=_REMEDY)
    if manifest.reference is not None and [len(row) for row in manifest.reference] != [manifest.num_classes] * COUNT:
        raise InputError("is not a manifest of a stored network", where=str(path), remedy=_REMEDY)
    try:
        architecture = _checked(manifest.architecture)
        loss = None if manifest.loss is None else _checked_loss(manifest.loss)
    except InputError as error:
        raise InputError(error.problem, where=str(path), remedy=error.remedy) from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("is not a manifest of a stored network", where=str(path), remedy=_REMEDY) from error
    description = NetworkDescription(
        architecture,
        manifest.image_shape,
        manifest.num_classes,
        manifest.mean,
        manifest.std,
        manifest.seed,
        manifest.exported,
    )
    return _Stored(description, manifest.digest, loss, manifest.precision, manifest.reference)


def _checked_loss(loss: Mapping[str, Any]) -> Spec:
    options = dict(loss)
    name = str(options.pop("name"))
    return Spec(name, _options(LOSSES, name, options))


def _checked(architecture: Mapping[str, Any]) -> Spec:
    """Check an architecture against the registries, so that an untrusted file cannot do more than a configuration."""
    options = dict(architecture)
    name = str(options.pop("name"))
    parts = {key: dict(options.pop(key)) for key in MODELS.entry(name).tags.get("parts", ()) if key in options}
    checked = _options(MODELS, name, options)
    for key, part in parts.items():
        part_name = str(part.pop("name"))
        checked[key] = {"name": part_name, **_options(PARTS[key][0], part_name, part)}
    return Spec(name, checked)


def _options(registry: Registry, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return registry.entry(name).complete_options(options, mode="json")
    except ValidationError as error:
        details = error.errors()[0]
        option = ".".join(str(key) for key in details["loc"])
        raise InputError(f"{registry.kind} {name}, option {option}: {details['msg']}", remedy=_REMEDY) from error
