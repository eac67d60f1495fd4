"""Stage `evaluate`: one attack on one model, a row per sample."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor

from gauntlet.config import Cell, grid
from gauntlet.core.errors import AttackError
from gauntlet.core.parquet import write_table
from gauntlet.core.progress import progress
from gauntlet.core.provenance.recipes import DIGEST_KEY, Recipe, digest_mark
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.signals import StopRequest
from gauntlet.core.tensors import tensor_digest, write_tensors
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.data.store import load_split
from gauntlet.learning.models.network import Network
from gauntlet.learning.models.weights import load_model
from gauntlet.pipeline import paths
from gauntlet.pipeline.stages.budgets import in_pixels
from gauntlet.pipeline.stages.device import describe_device, open_device
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.staleness import Plan
from gauntlet.robustness.evaluation import (
    AttackSettings,
    CellIdentity,
    Evaluation,
    EvaluationPart,
    evaluate_parts,
    merge_parts,
)
from gauntlet.robustness.evaluation.partial_results import PartialResults
from gauntlet.robustness.evaluation.shards import Shard, default_batch_size, part_ranges, remaining

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Attack one model and publish the rows and the examples kept, going on after the parts that are finished.

    Raises AttackError when any sample went wrong, Interrupted at a request to stop.
    """
    watch = Stopwatch()
    device = open_device(plan.config.execution)
    with StopRequest(str(cell)) as stop:
        evaluation = merge_parts(
            _attacked(plan, cell, recipe, device, stop), keep_examples=plan.experiment(cell.experiment).examples
        )
        _refuse_errors(cell, evaluation)
        made = {
            **recipe.metadata(),
            **watch.run_metadata(device=describe_device(device), precision=evaluation.precision),
        }
        examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in evaluation.examples.items()}
        withdraw(cell)
        write_tensors(paths.examples(cell), examples, {**made, DIGEST_KEY: digest_mark(tensor_digest(examples))})
        write_table(paths.samples(cell), evaluation.rows, made)
        sweep(cell)
    bad = pc.sum(pc.greater(evaluation.rows["nonfinite_gradients"], 0)).as_py()
    if bad:
        log.warning("%s: gradients at %d of %d samples were not finite", cell, bad, len(evaluation.rows))
    counts = evaluation.rows["status"].value_counts().to_pylist()
    log.info("%s: %s", cell, ", ".join(f"{count['counts']} {count['values']}" for count in counts))


def run_shard(plan: Plan, cell: Cell, recipe: Recipe, name: str) -> None:
    """Attack the samples of shard I/N and keep them as finished parts, which `run` gathers. Raises as `run` does."""
    shard = Shard.parse(name)
    device = open_device(plan.config.execution)
    with StopRequest(str(cell)) as stop:
        parts = _attacked(plan, cell, recipe, device, stop, shard=shard)
        if parts:
            _refuse_errors(cell, merge_parts(parts))


def attacked_images(plan: Plan, cell: Cell) -> tuple[Tensor, Tensor]:
    """Read the images, float32 `(N, C, H, W)` in [0, 1], and labels, int64 `(N,)`, that a cell's attack is run on."""
    settings = plan.experiment(cell.experiment)
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    return to_unit(split.images[: settings.samples]), split.labels[: settings.samples]


def attack_settings(plan: Plan, cell: Cell) -> AttackSettings:
    """Return the settings of a cell's attack, budgets in pixels."""
    attack = in_pixels(plan.experiment(cell.experiment)).attacks[cell.name]
    return AttackSettings(
        cell.name, attack.attack, attack.norm, attack.epsilons, attack.surrogate, attack.draws, attack.seed
    )


def source_models(plan: Plan, cell: Cell, device: torch.device) -> list[Network]:
    """Load the models that a cell's attack sees instead of the attacked one: none but for transfers."""
    sources = grid.sources(cell, plan.experiment(cell.experiment))
    return [load_model(paths.model_folder(one), device=device) for one in sources]


def identity_of(cell: Cell) -> CellIdentity:
    """Return the ids written to each row and used to seed its random draws."""
    return CellIdentity(cell.experiment, cell.variant, cell.seed)


def _attacked(
    plan: Plan, cell: Cell, recipe: Recipe, device: torch.device, stop: StopRequest, *, shard: Shard | None = None
) -> list[EvaluationPart]:
    """Give every part of a cell, or those that one shard still had to do, keeping each as it is finished."""
    settings, execution = plan.experiment(cell.experiment), plan.config.execution
    shards = settings.attacks[cell.name].shards
    images, labels = attacked_images(plan, cell)
    kept = PartialResults(paths.partial(cell, recipe.string), recipe=recipe.string)
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
        for part in evaluate_parts(
            load_model(paths.model_folder(cell.model), device=device),
            images,
            labels,
            attack_settings(plan, cell),
            identity=identity_of(cell),
            device=device,
            precision=execution.precision,
            batch_size=execution.attack_batch_size,
            ranges=left,
            keep_examples=settings.examples,
            sources=source_models(plan, cell, device),
        ):
            if not part.errors:
                kept.save(part)
            parts.append(part)
            done += part.stop - part.start
            report.advance(part.stop - part.start)
            if stop.requested and done < total:
                raise stop.interruption(f"{done} of {total} samples are kept")
    return parts


def _refuse_errors(cell: Cell, evaluation: Evaluation) -> None:
    """Let a cell fail in which any sample went wrong."""
    if not evaluation.errors:
        return
    failed = pc.sum(pc.equal(evaluation.rows["status"], "error")).as_py()
    problem = f"{failed} of {len(evaluation.rows)} samples went wrong, so nothing is recorded: {evaluation.errors[0]}"
    raise AttackError(problem, where=str(cell), remedy="fix the attack or choose another")
