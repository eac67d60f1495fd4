"""Certification of a split: calls one certificate in batches and builds its rows.

A certificate certifies either the model as it is, or another classifier that it makes from the model. Its tag says
which: `certifies="model"`, the default, or for example `certifies="smoothed"`. Its signature is

- for the model: `(network, x, y, **options) -> radii`, with images x `(B, C, H, W)` that the model classifies as their
  label y, int64 `(B,)`; radii are a tensor of floats `(B,)`, 0 where nothing can be certified;
- for another classifier: `(network, x, **options) -> CertifiedPredictions`, with any images and without their labels,
  since it may be right where the model is wrong and must not know the label.

The network is in IEEE float32 and in eval mode. A certificate receives those of the parameters `norm`, `keys` (one per
image, for `gauntlet.uniform`) and `batch_size` (images to pass through the network at once) that its signature names.
Radii in float64 are rounded down to float32. When memory runs out it is called again with half the batch size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from gauntlet.core.arithmetic import float32_arithmetic
from gauntlet.core.device_errors import device_error, is_out_of_memory
from gauntlet.core.errors import GauntletError
from gauntlet.core.randomness import sample_keys
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.learning.data.stored_images import UnitImages, hashes_of
from gauntlet.registry import CERTIFICATES, Spec
from gauntlet.robustness.certificates.certified_predictions import CertifiedPredictions, round_down
from gauntlet.robustness.evaluation.shards import default_pass_size
from gauntlet.robustness.judge import CellIdentity, Judge
from gauntlet.robustness.networks import device_of, inputs_protected
from gauntlet.robustness.preflight import PREFLIGHT_IMAGES, check_eval_mode, check_images, check_model

# Another classifier takes many passes per image, so a few images already fill its batches.
_IMAGES_PER_CALL = 4


def certify(network: nn.Module, images: Tensor, labels: Tensor, certificate: Spec, **settings: Any) -> pa.Table:
    """Certify all images; return rows of CERTIFICATE_SCHEMA in the order of the split.

    `settings` are those of `certify_parts`. Raises as it does.
    """
    return pa.concat_tables(list(certify_parts(network, images, labels, certificate, **settings))).combine_chunks()


def certify_parts(
    network: nn.Module,
    images: Tensor | UnitImages,
    labels: Tensor,
    certificate: Spec,
    *,
    name: str,
    norm: str,
    identity: CellIdentity,
    seed: int = 0,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    ranges: Sequence[tuple[int, int]] | None = None,
) -> Iterator[pa.Table]:
    """Certify images `(N, C, H, W)` in [0, 1] with labels `(N,)`; yield rows of CERTIFICATE_SCHEMA as they are ready.

    `radius` is in `norm`, in pixel units, 0 unless status is certified. `seed` and the model's seed address the
    certificate's random draws. A row depends only on its image, its label, the model, the certificate and the seeds (up
    to float32 rounding in the network). To resume, pass the sample `ranges` [start, stop) that are left.

    Raises InputError when the network or the images cannot be certified, GauntletError when the certificate raises
    an error or returns something invalid.
    """
    check_images(images, labels)
    check_eval_mode(network)
    run_device = torch.device(device) if device is not None else device_of(network)
    size = default_pass_size(run_device.type, images.shape[1:]) if batch_size is None else batch_size
    judge = Judge(network, device=run_device, batch_size=size)
    check_model(judge, images[:PREFLIGHT_IMAGES], labels, certified=True)
    certifier = _Certifier(judge, certificate, name=name, norm=norm)
    certifier.check_network(images[:1])
    for start, stop in [(0, len(images))] if ranges is None else ranges:
        while start < stop:
            part = slice(start, min(start + certifier.images_per_call, stop))
            hashes = hashes_of(images, part)
            address = f"certificate:{certificate.name}:{seed}"
            keys = sample_keys(identity.seed, address, hashes, device=run_device)
            x, y = images[part].to(run_device, torch.float32), labels[part].to(run_device, torch.int64)
            predictions = None
            try:
                predictions = certifier(x, y, keys)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside `except`, whose error keeps the tensors of the failed call alive.
            if predictions is None:
                judge.memory.halve()
                continue
            yield _rows(predictions, y.cpu().numpy(), start, hashes, name, norm, identity)
            start = part.stop


class _Certifier:
    """A certificate and the model: calls it with the signature that its tag says, and checks the result."""

    def __init__(self, judge: Judge, certificate: Spec, *, name: str, norm: str) -> None:
        self.judge, self.spec, self.name, self.norm = judge, certificate, name, norm
        self.component: Callable[..., Any] = CERTIFICATES.load(certificate.name)
        self.certifies_model = CERTIFICATES.entry(certificate.name).tags.get("certifies", "model") == "model"
        self.parameters = inspect.signature(self.component).parameters

    @property
    def images_per_call(self) -> int:
        """Number of images for one call of the certificate."""
        return self.judge.memory.current if self.certifies_model else _IMAGES_PER_CALL

    def check_network(self, image: Tensor) -> None:
        """Call the certificate once, so that it can refuse a network that classifies no image correctly."""
        if self.certifies_model:
            x = image.to(self.judge.device, torch.float32)
            self._radii(x, self.judge.logits(x).argmax(1), torch.zeros(1, dtype=torch.int64, device=x.device))

    def __call__(self, x: Tensor, y: Tensor, keys: Tensor) -> CertifiedPredictions:
        """Certify images `(B, C, H, W)` with labels and keys int64 `(B,)`."""
        if not self.certifies_model:
            return self._checked(self._call(x, keys=keys), len(x))
        logits = self.judge.logits(x)
        prediction = logits.argmax(1)
        correct = (prediction == y).nonzero()[:, 0]
        radius = torch.zeros(len(y), dtype=torch.float64, device=x.device)
        if len(correct):
            radius[correct] = self._radii(x[correct], y[correct], keys[correct])
        confidence = self.judge.confidence(logits)
        return CertifiedPredictions(prediction.cpu().numpy(), confidence.cpu().numpy(), radius.cpu().numpy())

    def _radii(self, x: Tensor, y: Tensor, keys: Tensor) -> Tensor:
        radii = self._call(x, y, keys=keys)
        if not (isinstance(radii, Tensor) and radii.shape == y.shape):
            raise self._error(f"no radii of shape {tuple(y.shape)}")
        if not (radii.isfinite() & (radii >= 0)).all():
            raise self._error("radii that are negative or not finite")
        return radii.detach().to(y.device, torch.float64)

    def _checked(self, predictions: Any, count: int) -> CertifiedPredictions:
        shapes = {(count,)}
        if not isinstance(predictions, CertifiedPredictions) or {v.shape for v in vars(predictions).values()} != shapes:
            raise self._error(f"no CertifiedPredictions on {count} images")
        if not (np.isfinite(predictions.radius) & (predictions.radius >= 0)).all():
            raise self._error("radii that are negative or not finite")
        if (predictions.radius[predictions.prediction < 0] > 0).any():
            raise self._error("radii above 0 where it abstains")
        return predictions

    def _call(self, *arguments: Tensor, keys: Tensor) -> Any:
        supplied = {"norm": self.norm, "keys": keys, "batch_size": self.judge.memory.current}
        named: dict[str, Any] = {key: value for key, value in supplied.items() if key in self.parameters}
        copies = (argument.clone() for argument in arguments)
        try:
            with float32_arithmetic(), inputs_protected(self.judge.network, self.judge.images):
                return self.component(self.judge.network, *copies, **named, **self.spec.options)
        except GauntletError:
            raise
        except Exception as error:  # a user's certificate or network may raise anything
            if is_out_of_memory(error):
                raise
            problem = f"certificate {self.spec.name} raised {type(error).__name__}: {error}"
            raise device_error(error) or GauntletError(problem, where=self.name) from error

    def _error(self, returned: str) -> GauntletError:
        return GauntletError(f"certificate {self.spec.name} returned {returned}", where=self.name)


def _rows(
    predictions: CertifiedPredictions,
    labels: np.ndarray,
    start: int,
    hashes: list[str],
    name: str,
    norm: str,
    identity: CellIdentity,
) -> pa.Table:
    count = len(hashes)
    abstained, wrong = predictions.prediction < 0, predictions.prediction != labels
    radius = np.where(wrong, np.float32(0.0), round_down(np.asarray(predictions.radius, np.float64)))
    columns: dict[str, Any] = {
        "experiment": [identity.experiment] * count,
        "variant": [identity.variant] * count,
        "seed": np.full(count, identity.seed),
        "certificate": [name] * count,
        "norm": [norm] * count,
        "index": np.arange(start, start + count),
        "label": labels,
        "clean_prediction": predictions.prediction,
        "clean_confidence": predictions.confidence,
        "radius": radius,
        "status": list(
            np.select([abstained, wrong, radius > 0], ["abstained", "already_wrong", "certified"], "abstained")
        ),
        "sample_hash": hashes,
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in CERTIFICATE_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=CERTIFICATE_SCHEMA)
