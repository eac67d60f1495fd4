"""How long attacks will take: each is run on a few samples of its model, and nothing of that is kept but the time."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

import torch

from gauntlet.config import Cell
from gauntlet.core.errors import GauntletError
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.evaluate import attack_settings, attacked_images, identity_of, source_models
from gauntlet.pipeline.staleness import Plan
from gauntlet.pipeline.status.predictions import Prediction
from gauntlet.robustness.evaluation import evaluate_parts
from gauntlet.robustness.evaluation.shards import SampleRange, default_batch_size, part_ranges

log = logging.getLogger("gauntlet")

Clock = Callable[[], float]


def trial_ranges(samples: int, batch: int) -> list[SampleRange]:
    """Choose what is tried: a batch to warm up, one that is timed, and one twice as large, as far as samples reach."""
    size = max(1, min(batch, samples // 4))
    starts = [min(start, max(0, samples - length)) for start, length in ((0, size), (size, size), (2 * size, 2 * size))]
    lengths = (size, size, min(2 * size, samples))
    return [(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def extrapolate(tried: Sequence[SampleRange], ends_s: Sequence[float], wanted: Sequence[SampleRange]) -> float:
    """Give the seconds that all `wanted` parts will take, set-up included.

    `ends_s` are the times at which each of the three tried parts was finished, since the set-up began. A part is taken
    to cost so much by itself and so much per sample: the two that came after the warm-up tell both. What the first took
    beyond its own cost is set-up, and is paid once.
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


def predict_all(plan: Plan, cells: Iterable[Cell], *, batch: int) -> dict[Cell, Prediction | None]:
    """Predict cells and write each prediction beside its log; None for one whose model or attack does not work yet."""
    found: dict[Cell, Prediction | None] = {}
    start_s: float | None = None
    for cell in cells:
        found[cell] = None
        recipe = plan.recipe(cell)
        if recipe is None:
            log.info("%s: waits for its model", cell)
            continue
        start_s = start_seconds() if start_s is None else start_s
        try:
            found[cell] = told = predict(plan, cell, recipe, batch=batch, start_seconds=start_s)
        except GauntletError as error:
            log.warning("%s: cannot be tried: %s", cell, error)
        else:
            told.write(cell)
    return found


def predict(
    plan: Plan, cell: Cell, recipe: Recipe, *, batch: int, start_seconds: float, clock: Clock = time.perf_counter
) -> Prediction:
    """Run the attack of a cell on up to four times `batch` samples, as its stage would, and predict the whole.

    Raises GauntletError where the attack does, or where its results are not accepted.
    """
    began_s = clock()
    execution = plan.config.execution
    device = open_device(execution)
    images, labels = attacked_images(plan, cell)
    network = load_model(paths.model_folder(cell.model), device=device)
    tried = trial_ranges(len(images), batch)
    ends_s = []
    for part in evaluate_parts(
        network,
        images,
        labels,
        attack_settings(plan, cell),
        identity=identity_of(cell),
        device=device,
        precision=execution.precision,
        batch_size=execution.attack_batch_size,
        ranges=tried,
        keep_examples=plan.experiment(cell.experiment).examples,
        sources=source_models(plan, cell, device),
    ):
        ends_s.append(clock() - began_s)
        if part.errors:
            raise GauntletError(part.errors[0], where=str(cell))
    shards = plan.experiment(cell.experiment).attacks[cell.name].shards
    wanted = part_ranges(len(images), part_size=default_batch_size(device.type), shards=shards)
    return Prediction(
        recipe=recipe.string,
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
    command = [sys.executable, "-c", "import gauntlet.pipeline.stages.evaluate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GauntletError("the stage's code cannot be imported", where=done.stderr.strip().rpartition("\n")[2])
    return time.perf_counter() - began_s
