"""Runs one certificate over one split and makes its rows."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.data.splits import sample_hashes
from gauntlet.errors import GauntletError
from gauntlet.progress import Progress, Silent
from gauntlet.randomness import sample_keys
from gauntlet.registry import CERTIFICATES, Spec
from gauntlet.results import CERTIFICATE_SCHEMA
from gauntlet.subject import (
    PROBES,
    CellIdentity,
    Judge,
    check_eval_mode,
    check_images,
    check_logits,
    device_of,
    halved,
)
from gauntlet.tensors import is_out_of_memory


def certify(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    certificate: Spec,
    *,
    name: str,
    norm: str,
    identity: CellIdentity,
    device: str | torch.device | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> pa.Table:
    """Certify every correctly classified image; gives rows of CERTIFICATE_SCHEMA in the order of the split.

    Images are `(N, C, H, W)` in [0, 1], labels integers `(N,)`. `radius` is in `norm`, in pixel units, 0 unless status
    is certified. Raises InputError when the network or the images cannot be certified.
    """
    check_images(images, labels)
    check_eval_mode(network)
    component = CERTIFICATES.load(certificate.name)
    place = torch.device(device) if device is not None else device_of(network)
    judge = Judge(network, device=place, batch_size=batch_size)
    check_logits(judge, images[:PROBES], labels)
    hashes = sample_hashes(images.to(torch.float32))
    keys = sample_keys(identity.seed, f"certificate:{certificate.name}", hashes, device=place)
    accepted = inspect.signature(component).parameters

    def radii(part: slice, rows: Tensor, y: Tensor) -> Tensor:
        supplied = {"norm": norm, "keys": keys[part][rows]}
        arguments: dict[str, Any] = {key: value for key, value in supplied.items() if key in accepted}
        x = images[part].to(place, torch.float32)[rows]
        found: Tensor = component(judge.network, x, y[rows], **arguments, **certificate.options)
        if not (found.isfinite() & (found >= 0)).all():
            raise GauntletError(
                f"certificate {certificate.name} gave radii that are negative or not finite", where=name
            )
        return found

    # A network that cannot be certified is refused also when it classifies nothing correctly.
    first = slice(0, 1)
    radii(first, torch.arange(1, device=place), judge.logits(images[first]).argmax(1))
    columns: dict[str, list[np.ndarray]] = {"clean_prediction": [], "clean_confidence": [], "radius": []}
    report = progress or Silent()
    done = 0
    while done < len(images):
        part = slice(done, min(done + judge.batch_size, len(images)))
        y = labels[part].to(place, torch.int64)
        logits = judge.logits(images[part])
        right = (logits.argmax(1) == y).nonzero()[:, 0]
        radius = torch.zeros(len(y), dtype=torch.float32, device=place)
        try:
            if len(right):
                radius[right] = radii(part, right, y)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            judge.batch_size = halved(judge.batch_size, place)
            continue
        columns["clean_prediction"].append(logits.argmax(1).cpu().numpy())
        columns["clean_confidence"].append(logits.softmax(1).amax(1).cpu().numpy())
        columns["radius"].append(radius.cpu().numpy())
        report.advance(len(y))
        done = part.stop
    return _table(
        {key: np.concatenate(values) for key, values in columns.items()}, labels, hashes, name, norm, identity
    )


def _table(
    measured: dict[str, np.ndarray], labels: Tensor, hashes: list[str], name: str, norm: str, identity: CellIdentity
) -> pa.Table:
    count = len(hashes)
    wrong = measured["clean_prediction"] != labels.cpu().numpy()
    columns: dict[str, Any] = {
        "experiment": [identity.experiment] * count,
        "variant": [identity.variant] * count,
        "seed": np.full(count, identity.seed),
        "certificate": [name] * count,
        "norm": [norm] * count,
        "index": np.arange(count),
        "label": labels.cpu().numpy(),
        **measured,
        "status": list(np.where(wrong, "already_wrong", np.where(measured["radius"] > 0, "certified", "abstained"))),
        "sample_hash": hashes,
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in CERTIFICATE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CERTIFICATE_SCHEMA)
