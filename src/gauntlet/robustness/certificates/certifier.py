"""Runs one certificate over one split and makes its rows.

A certificate certifies either the model as it is, or a classifier of its own that it makes from the model. Its tag says
which: `certifies="model"`, as where there is no such tag, or `certifies="smoothed"`. It is called

- for the model: `(network, x, y, **options) -> radii`, with the images x `(B, C, H, W)` that the model classifies as
  their label y, int64 `(B,)`; radii are a float32 tensor `(B,)`, 0 where nothing can be certified;
- for a classifier of its own: `(network, x, **options) -> Verdicts`, with any images and without their labels, since it
  may be right where the model is wrong, and must not know.

The network is in float32 and in eval mode. Of the parameters `norm`, `keys` (one per image, for `gauntlet.uniform`)
and `batch_size` (images to pass through the network at once) it is handed those that it names. When memory runs out it
is called again with half the batch size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.batch_size import is_out_of_memory
from gauntlet.core.errors import GauntletError
from gauntlet.core.progress import NullProgress, Progress
from gauntlet.core.randomness import sample_keys
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.learning.data.splits import sample_hashes
from gauntlet.registry import CERTIFICATES, Spec
from gauntlet.robustness.certificates.verdicts import Verdicts
from gauntlet.robustness.judge import CellIdentity, Judge, device_of
from gauntlet.robustness.preflight import PROBES, check_eval_mode, check_images, check_logits

# A classifier of its own takes many passes per image, so a few images fill its batches and are soon done.
_IMAGES_AT_ONCE = 4


def certify(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    certificate: Spec,
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> pa.Table:
    """Certify all images; gives rows of CERTIFICATE_SCHEMA in the order of the split.

    `settings` are those of `certify_parts`. Raises as it does.
    """
    report, parts = progress or NullProgress(), []
    for rows in certify_parts(network, images, labels, certificate, **settings):
        parts.append(rows)
        report.advance(len(rows))
    return pa.concat_tables(parts).combine_chunks()


def certify_parts(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    certificate: Spec,
    *,
    name: str,
    norm: str,
    identity: CellIdentity,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int = 256,
    ranges: Sequence[tuple[int, int]] | None = None,
) -> Iterator[pa.Table]:
    """Certify images `(N, C, H, W)` in [0, 1] with labels `(N,)`, giving rows of CERTIFICATE_SCHEMA as they are ready.

    `radius` is in `norm`, in pixel units, 0 unless status is certified. `seed` addresses the certificate's own draws,
    beside the model's seed. A row depends on its image, its label, the model, the certificate and the seeds alone (up
    to float32 rounding in the network, where it decides). To go on after an interruption, give the `ranges` [start,
    stop) that are left.

    Raises InputError when the network or the images cannot be certified, GauntletError when the certificate returns
    what is no certificate.
    """
    check_images(images, labels)
    check_eval_mode(network)
    place = torch.device(device) if device is not None else device_of(network)
    judge = Judge(network, device=place, batch_size=batch_size)
    check_logits(judge, images[:PROBES], labels)
    certifier = _Certifier(judge, certificate, name=name, norm=norm)
    certifier.check_network(images[:1])
    for first, stop in [(0, len(images))] if ranges is None else ranges:
        while first < stop:
            part = slice(first, min(first + certifier.images_at_once, stop))
            hashes = sample_hashes(images[part].to(torch.float32))
            address = f"certificate:{certificate.name}:{seed}"
            keys = sample_keys(identity.seed, address, hashes, device=place)
            x, y = images[part].to(place, torch.float32), labels[part].to(place, torch.int64)
            try:
                found = certifier(x, y, keys)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                judge.memory.halve()
                continue
            yield _rows(found, y.cpu().numpy(), first, hashes, name, norm, identity)
            first = part.stop


class _Certifier:
    """Calls a certificate by the shape that its tag says, and checks what it returns."""

    def __init__(self, judge: Judge, certificate: Spec, *, name: str, norm: str) -> None:
        self.judge, self.spec, self.name, self.norm = judge, certificate, name, norm
        self.component: Callable[..., Any] = CERTIFICATES.load(certificate.name)
        self.of_model = CERTIFICATES.entry(certificate.name).tags.get("certifies", "model") == "model"
        self.accepted = inspect.signature(self.component).parameters

    @property
    def images_at_once(self) -> int:
        """How many images one call takes."""
        return self.judge.memory.current if self.of_model else _IMAGES_AT_ONCE

    def check_network(self, image: Tensor) -> None:
        """Let a certificate refuse a network also where it classifies nothing correctly. Raises what it raises."""
        if self.of_model:
            x = image.to(self.judge.device, torch.float32)
            self._radii(x, self.judge.logits(x).argmax(1), torch.zeros(1, dtype=torch.int64, device=x.device))

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor) -> Verdicts:
        """Certify images `(B, C, H, W)` with labels and keys int64 `(B,)`."""
        if not self.of_model:
            return self._checked(self._call(x, keys=keys), len(x))
        logits = self.judge.logits(x)
        prediction = logits.argmax(1)
        right = (prediction == y).nonzero()[:, 0]
        radius = torch.zeros(len(y), dtype=torch.float32, device=x.device)
        if len(right):
            radius[right] = self._radii(x[right], y[right], keys[right])
        confidence = self.judge.confidence(logits)
        return Verdicts(prediction.cpu().numpy(), confidence.cpu().numpy(), radius.cpu().numpy())

    def _radii(self, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        found = self._call(x, y, keys=keys)
        if not (isinstance(found, Tensor) and found.shape == y.shape):
            raise self._broken_promise(f"no radii of shape {tuple(y.shape)}")
        if not (found.isfinite() & (found >= 0)).all():
            raise self._broken_promise("radii that are negative or not finite")
        return found

    def _checked(self, found: Any, count: int) -> Verdicts:
        shapes = {(count,)}
        if not isinstance(found, Verdicts) or {v.shape for v in vars(found).values()} != shapes:
            raise self._broken_promise(f"no verdicts on {count} images")
        if not (np.isfinite(found.radius) & (found.radius >= 0)).all():
            raise self._broken_promise("radii that are negative or not finite")
        if (found.radius[found.prediction < 0] > 0).any():
            raise self._broken_promise("radii above 0 where it abstains")
        return found

    def _call(self, *given: Tensor, keys: Tensor) -> Any:
        supplied = {"norm": self.norm, "keys": keys, "batch_size": self.judge.memory.current}
        arguments: dict[str, Any] = {key: value for key, value in supplied.items() if key in self.accepted}
        return self.component(self.judge.network, *given, **arguments, **self.spec.options)

    def _broken_promise(self, gave: str) -> GauntletError:
        return GauntletError(f"certificate {self.spec.name} gave {gave}", where=self.name)


def _rows(
    found: Verdicts, labels: np.ndarray, first: int, hashes: list[str], name: str, norm: str, identity: CellIdentity
) -> pa.Table:
    count = len(hashes)
    abstained, wrong = found.prediction < 0, found.prediction != labels
    radius = np.where(wrong, np.float32(0.0), found.radius)
    columns: dict[str, Any] = {
        "experiment": [identity.experiment] * count,
        "variant": [identity.variant] * count,
        "seed": np.full(count, identity.seed),
        "certificate": [name] * count,
        "norm": [norm] * count,
        "index": np.arange(first, first + count),
        "label": labels,
        "clean_prediction": found.prediction,
        "clean_confidence": found.confidence,
        "radius": radius,
        "status": list(
            np.select([abstained, wrong, radius > 0], ["abstained", "already_wrong", "certified"], "abstained")
        ),
        "sample_hash": hashes,
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in CERTIFICATE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CERTIFICATE_SCHEMA)
