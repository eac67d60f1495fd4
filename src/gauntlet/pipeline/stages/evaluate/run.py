"""From a trained network to the rows of one attack, one per sample."""

from __future__ import annotations

import logging
import time

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from gauntlet.core.errors import AttackError, InputError, located
from gauntlet.core.parquet import write_table
from gauntlet.core.progress import progress
from gauntlet.core.provenance.recipes import DIGEST_KEY, digest_mark
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.signals import StopRequest
from gauntlet.core.tensors import tensor_digest, write_tensors
from gauntlet.learning.data.stored_images import UnitImages, open_split
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell, CellJob
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.device import describe_device, device_metadata, open_device
from gauntlet.pipeline.stages.evaluate.declaration import source_models
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.robustness.evaluation import (
    AttackSettings,
    CellIdentity,
    Evaluation,
    EvaluationPart,
    evaluate_parts,
    merge_parts,
)
from gauntlet.robustness.evaluation.partial_results import PartialResults
from gauntlet.robustness.evaluation.probabilities import example_probabilities
from gauntlet.robustness.evaluation.shards import Shard, default_batch_size, part_ranges, remaining

log = logging.getLogger("gauntlet")


def run(job: CellJob) -> None:
    """Attack one model and publish the rows and some adversarial images, resuming after the finished parts.

    Raises AttackError when the attack failed on any sample, Interrupted at a request to stop.
    """
    watch = Stopwatch()
    cell, device = job.cell, open_device(job.execution)
    with StopRequest(str(cell)) as stop, located(str(cell)):
        network = load_model(paths.model_folder(cell), device=device)
        kept = _kept_parts(job)
        evaluation = merge_parts(_attack(job, network, device, stop, kept), keep_examples=job.experiment.examples)
        _refuse_errors(cell, evaluation)
        watch.add(kept.loaded_s)
        made = {
            **job.recipe.metadata(),
            **watch.run_metadata(
                **device_metadata(job.execution, describe_device(device), precision=evaluation.precision)
            ),
        }
        draws = job.experiment.attacks[cell.name].draws
        added = example_probabilities(network, evaluation.examples, device=device, draws=draws)
        arrays = {**evaluation.examples, **added}
        examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        withdraw(cell)
        write_tensors(paths.examples(cell), examples, {**made, DIGEST_KEY: digest_mark(tensor_digest(examples))})
        write_table(paths.samples(cell), evaluation.rows, made)
        sweep(cell)
    bad = pc.sum(pc.greater(evaluation.rows["nonfinite_gradients"], 0)).as_py()
    if bad:
        log.warning("%s: gradients at %d of %d samples were not finite", cell, bad, len(evaluation.rows))
    counts = evaluation.rows["status"].value_counts().to_pylist()
    log.info("%s: %s", cell, ", ".join(f"{count['counts']} {count['values']}" for count in counts))


def run_shard(job: CellJob, name: str) -> None:
    """Attack the samples of shard I/N and keep them as finished parts, which `run` gathers. Raises as `run` does."""
    shard = Shard.parse(name)
    device = open_device(job.execution)
    with StopRequest(str(job.cell)) as stop, located(str(job.cell)):
        network = load_model(paths.model_folder(job.cell), device=device)
        parts = _attack(job, network, device, stop, _kept_parts(job), shard=shard)
        if parts:
            _refuse_errors(job.cell, merge_parts(parts))


def attacked_images(job: CellJob) -> tuple[UnitImages, Tensor]:
    """Open the images, float32 `(N, C, H, W)` in [0, 1], and labels, int64 `(N,)`, that a cell's attack is run on.

    Raises InputError for `samples` of the attack that are not fewer than the test images: the results would be taken
    for those of a part.
    """
    settings = job.experiment
    split = open_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    fewer = settings.fewer_samples(job.cell.name)
    if fewer is not None and fewer >= len(split):
        where = f"{job.cell.experiment}.attacks.{job.cell.name}.samples"
        problem = f"{fewer} is not fewer than the {len(split)} test images"
        raise InputError(problem, where=where, remedy="leave it out, or choose fewer")
    if settings.samples is not None and settings.samples > len(split):
        log.warning(
            "%s: `samples: %d` is more than the %d test images, all are used", job.cell, settings.samples, len(split)
        )
    samples = settings.samples_of(job.cell.name)
    return UnitImages(split, samples), split.labels[:samples]


def attack_settings(job: CellJob) -> AttackSettings:
    """Return the settings of a cell's attack, budgets in pixels."""
    attack = in_pixels(job.experiment).attacks[job.cell.name]
    return AttackSettings(
        job.cell.name, attack.attack, attack.norm, attack.epsilons, attack.surrogate, attack.draws, attack.seed
    )


def load_sources(job: CellJob, device: torch.device) -> list[Network]:
    """Load the models whose gradients a transfer attack uses in place of the attacked model's; empty for others."""
    models = source_models(job.cell, job.experiment)
    return [load_model(paths.model_folder(model), device=device) for model in models]


def identity_of(cell: Cell) -> CellIdentity:
    """Return the ids written to each row and used to seed its random draws."""
    return CellIdentity(cell.experiment, cell.variant, cell.seed)


def _kept_parts(job: CellJob) -> PartialResults:
    return PartialResults(paths.partial(job.cell, job.recipe.digest), recipe=job.recipe.digest)


def _attack(
    job: CellJob,
    network: Network,
    device: torch.device,
    stop: StopRequest,
    kept: PartialResults,
    *,
    shard: Shard | None = None,
) -> list[EvaluationPart]:
    """Return every part of a cell, or those that one shard still had to do, keeping each as it is finished."""
    cell, settings, execution = job.cell, job.experiment, job.execution
    shards = settings.attacks[cell.name].shards
    images, labels = attacked_images(job)
    parts = kept.load()
    finished = [(part.start, part.stop) for part in parts]
    wanted = part_ranges(len(images), part_size=default_batch_size(device.type), shards=shards, shard=shard)
    left = remaining(wanted, finished)
    if shard:
        parts = []
    title, total = f"{cell} shard {shard.number}/{shard.count}" if shard else str(cell), sum(b - a for a, b in wanted)
    done = total - sum(b - a for a, b in left)
    if done:
        log.info("%s: %d of %d samples are finished already", title, done, total)
    if not left:
        return parts
    file = paths.progress_file(cell, shard.number, shard.count) if shard else paths.progress_file(cell)
    with progress(title, total, "samples", done=done, file=file) as report:
        since_s = time.monotonic()
        for part in evaluate_parts(
            network,
            images,
            labels,
            attack_settings(job),
            identity=identity_of(cell),
            device=device,
            precision=execution.precision,
            batch_size=execution.attack_batch_size,
            ranges=left,
            keep_examples=settings.examples,
            sources=load_sources(job, device),
        ):
            if not part.errors:
                kept.save(part, seconds=time.monotonic() - since_s)
            since_s = time.monotonic()
            parts.append(part)
            done += part.stop - part.start
            report.advance(part.stop - part.start)
            if stop.requested and done < total:
                raise stop.interruption(f"{done} of {total} samples are kept")
    return parts


def _refuse_errors(cell: Cell, evaluation: Evaluation) -> None:
    """Raise AttackError if the attack failed on any sample."""
    if not evaluation.errors:
        return
    failed = pc.sum(pc.equal(evaluation.rows["status"], "error")).as_py()
    counts = f"{failed} of {len(evaluation.rows)} samples"
    problem = f"the attack failed on {counts}, so nothing is recorded: {evaluation.errors[0]}"
    raise AttackError(problem, where=str(cell), remedy="fix the attack or choose another")
