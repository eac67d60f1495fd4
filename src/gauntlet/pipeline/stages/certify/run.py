"""From a trained network to the rows of one certificate, one per sample."""

from __future__ import annotations

import logging
import time

import pyarrow as pa
import pyarrow.compute as pc
import torch

from gauntlet.core.errors import located
from gauntlet.core.parquet import write_table
from gauntlet.core.progress import progress
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.schemas import CERTIFICATE_SCHEMA
from gauntlet.core.signals import StopRequest
from gauntlet.learning.data.stored_images import UnitImages, open_split
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import CellJob
from gauntlet.pipeline.stages.device import describe_device, device_metadata, open_device
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.robustness.certificates.certifier import certify_parts
from gauntlet.robustness.certificates.lipschitz_check import check_lipschitz
from gauntlet.robustness.certificates.lipschitz_constants import LipschitzConstants
from gauntlet.robustness.evaluation import CellIdentity, EvaluationPart
from gauntlet.robustness.evaluation.partial_results import PartialResults
from gauntlet.robustness.evaluation.shards import default_batch_size, remaining

log = logging.getLogger("gauntlet")

KEEP_EVERY_S = 10.0
"""Seconds of work after which finished rows are kept: a row may take milliseconds or minutes."""


def run(job: CellJob) -> None:
    """Certify the test images of one model and publish the rows, resuming after those that are finished.

    Raises Interrupted at a request to stop, GauntletError when the images refute the Lipschitz constant that the model
    claims.
    """
    watch = Stopwatch()
    cell, device = job.cell, open_device(job.execution)
    with StopRequest(str(cell)) as stop, located(str(cell)):
        kept = PartialResults(
            paths.partial(cell, job.recipe.digest), recipe=job.recipe.digest, schema=CERTIFICATE_SCHEMA
        )
        rows, checked = _certify(job, device, stop, kept)
        watch.add(kept.loaded_s)
        made = {
            **job.recipe.metadata(),
            **watch.run_metadata(**device_metadata(job.execution, describe_device(device), precision="float32")),
        }
        made |= checked.metadata() if checked else {}
        withdraw(cell)
        write_table(paths.samples(cell), rows, made)
        sweep(cell)
    counts = ", ".join(f"{count['counts']} {count['values']}" for count in rows["status"].value_counts().to_pylist())
    log.info("%s: %s, mean radius %.4f in %s", cell, counts, pc.mean(rows["radius"]).as_py(), rows["norm"][0].as_py())
    if checked:
        log.info("%s: Lipschitz constant %.6g claimed, %.6g measured", cell, checked.claimed, checked.measured)


def _certify(
    job: CellJob, device: torch.device, stop: StopRequest, kept: PartialResults
) -> tuple[pa.Table, LipschitzConstants | None]:
    """Return the rows of all samples, and the Lipschitz constants if the certificate uses one.

    Finished rows are kept on disk from time to time. The constant is measured before anything is certified.
    """
    cell, settings = job.cell, job.experiment
    certificate = settings.certificates[cell.name]
    split = open_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    images, labels = UnitImages(split, settings.samples), split.labels[: settings.samples]
    parts = kept.load()
    left = remaining([(0, len(images))], [(part.start, part.stop) for part in parts])
    done = len(images) - sum(stop - start for start, stop in left)
    if done:
        log.info("%s: %d of %d samples are finished already", cell, done, len(images))
    with progress(str(cell), len(images), "samples", done=done, file=paths.progress_file(cell)) as report:
        network = load_model(paths.model_folder(cell), device=device)
        batch_size = default_batch_size(device.type)
        checked = check_lipschitz(network, images, certificate.certificate, batch_size=batch_size, where=str(cell))
        waiting: list[pa.Table] = []
        since_s = time.monotonic()
        for rows in certify_parts(
            network,
            images,
            labels,
            certificate.certificate,
            name=cell.name,
            norm=certificate.norm,
            identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
            seed=certificate.seed,
            device=device,
            ranges=left,
        ):
            waiting.append(rows)
            done += len(rows)
            report.advance(len(rows))
            if done < len(images) and (stop.requested or time.monotonic() - since_s > KEEP_EVERY_S):
                joined = _join(waiting)
                for part in joined:
                    kept.save(part, seconds=(time.monotonic() - since_s) / len(joined))
                parts += joined
                waiting, since_s = [], time.monotonic()
                if stop.requested:
                    raise stop.interruption(f"{done} of {len(images)} samples are kept")
    ordered = sorted([*parts, *_join(waiting)], key=lambda part: part.start)
    return pa.concat_tables([part.rows for part in ordered]).combine_chunks(), checked


def _join(tables: list[pa.Table]) -> list[EvaluationPart]:
    """Join rows into as few parts as have no gap in them."""
    rows = pa.concat_tables([CERTIFICATE_SCHEMA.empty_table(), *tables])
    index = rows["index"].to_pylist()
    starts = [row for row in range(len(index)) if row == 0 or index[row] != index[row - 1] + 1]
    return [
        EvaluationPart(index[a], index[b - 1] + 1, rows.slice(a, b - a).combine_chunks(), {}, "float32")
        for a, b in zip(starts, [*starts[1:], len(index)], strict=True)
    ]
