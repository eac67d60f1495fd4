"""Predicted durations of attacks, each tried on a few samples of its model; only the time is kept."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from gauntlet.core.errors import GauntletError
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, CellJob
from gauntlet.pipeline.stages.device import computing, describe_device, open_device
from gauntlet.pipeline.stages.evaluate.run import attack_settings, attacked_images, identity_of, load_sources
from gauntlet.pipeline.staleness import Staleness
from gauntlet.pipeline.status.predictions import Prediction
from gauntlet.robustness.evaluation import evaluate_parts
from gauntlet.robustness.evaluation.shards import SampleRange, default_batch_size, part_ranges

log = logging.getLogger("gauntlet")

Clock = Callable[[], float]


def trial_ranges(samples: int, batch: int) -> list[SampleRange]:
    """Return the ranges to try: a batch to warm up, one that is timed, and one twice as large, as samples allow."""
    size = max(1, min(batch, samples // 4))
    starts = [min(start, max(0, samples - length)) for start, length in ((0, size), (size, size), (2 * size, 2 * size))]
    lengths = (size, size, min(2 * size, samples))
    return [(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def extrapolate(tried: Sequence[SampleRange], ends_s: Sequence[float], wanted: Sequence[SampleRange]) -> float:
    """Compute the seconds that all `wanted` parts will take, including setup.

    `ends_s` are the times at which each of the three tried parts was finished, since the setup began. A part
    costs a constant plus an amount per sample, both measured on the two parts after the warm-up. What the first part
    took beyond that is setup, which is paid once.
    """
    sizes = [stop - start for start, stop in tried]
    small_s, large_s = ends_s[1] - ends_s[0], ends_s[2] - ends_s[1]
    if sizes[2] > sizes[1]:
        # Noise may make the larger part the faster one; neither cost is negative.
        per_sample_s = max(0.0, (large_s - small_s) / (sizes[2] - sizes[1]))
        per_sample_s = min(per_sample_s, large_s / sizes[2])
    else:
        per_sample_s = large_s / sizes[2]
    per_part_s = max(0.0, large_s - per_sample_s * sizes[2])
    setup_s = max(0.0, ends_s[0] - per_part_s - per_sample_s * sizes[0])
    return setup_s + per_part_s * len(wanted) + per_sample_s * sum(stop - start for start, stop in wanted)


def predict_all(staleness: Staleness, cells: Iterable[Cell], *, batch: int) -> dict[Cell, Prediction | None]:
    """Predict cells and write each prediction next to its log; None for one whose model or attack does not work yet."""
    predictions: dict[Cell, Prediction | None] = {}
    start_s: float | None = None
    for cell in cells:
        predictions[cell] = None
        if staleness.recipe(cell) is None:
            log.info("%s: waits for its model", cell)
            continue
        start_s = start_seconds() if start_s is None else start_s
        try:
            with computing(str(cell)):
                prediction = predict(staleness.job(cell), batch=batch, start_seconds=start_s)
        except GauntletError as error:
            log.warning("cannot be tried: %s", error)
        else:
            predictions[cell] = prediction
            prediction.write(cell)
    return predictions


def predict(job: CellJob, *, batch: int, start_seconds: float, clock: Clock = time.perf_counter) -> Prediction:
    """Run the attack of a cell on up to four times `batch` samples, as its stage would, and predict the whole.

    Raises GauntletError where the attack does, or where its results are not accepted.
    """
    began_s = clock()
    cell, execution = job.cell, job.execution
    device = open_device(execution)
    images, labels = attacked_images(job)
    network = load_model(paths.model_folder(cell), device=device)
    tried = trial_ranges(len(images), batch)
    ends_s = []
    for part in evaluate_parts(
        network,
        images,
        labels,
        attack_settings(job),
        identity=identity_of(cell),
        device=device,
        precision=execution.precision,
        batch_size=execution.attack_batch_size,
        ranges=tried,
        keep_examples=job.experiment.examples,
        sources=load_sources(job, device),
    ):
        ends_s.append(clock() - began_s)
        if part.errors:
            raise GauntletError(part.errors[0])
    shards = job.experiment.attacks[cell.name].shards
    wanted = part_ranges(len(images), part_size=default_batch_size(device.type), shards=shards)
    return Prediction(
        recipe=job.recipe.digest,
        seconds=round(extrapolate(tried, ends_s, wanted), 3),
        start_seconds=round(start_seconds, 3),
        samples=len(images),
        tried=len({index for start, stop in tried for index in range(start, stop)}),
        device=describe_device(device),
        threads=torch.get_num_threads(),
    )


def start_seconds() -> float:
    """Measure how long a process takes until the stage's code is imported."""
    began_s = time.perf_counter()
    command = [sys.executable, "-c", "import gauntlet.pipeline.stages.evaluate.run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GauntletError("the stage's code cannot be imported", where=done.stderr.strip().rpartition("\n")[2])
    return time.perf_counter() - began_s
