"""Stage `evaluate`: one attack on one model, a row per sample."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow.compute as pc
import torch

from gauntlet import paths
from gauntlet.config import Cell
from gauntlet.data.splits import to_unit
from gauntlet.data.store import load_split
from gauntlet.errors import AttackError
from gauntlet.evaluation import AttackPlan, CellIdentity, Evaluation, EvaluationPart, evaluate_parts, gather
from gauntlet.evaluation.finished import FinishedParts
from gauntlet.evaluation.pieces import PART_SIZES, Shard, pieces, remaining
from gauntlet.models.weights import load_model
from gauntlet.planning import Plan
from gauntlet.progress import progress
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import DIGEST_KEY, Recipe, digest_mark
from gauntlet.results import write_table
from gauntlet.signals import StopRequest
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import sweep, withdraw
from gauntlet.tensors import tensor_digest, write_tensors

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Attack one model and publish the rows and the examples kept, going on after the parts that are finished.

    Raises AttackError when any sample went wrong, Interrupted at a request to stop.
    """
    watch = Stopwatch()
    device, execution = open_device(plan.config.execution), plan.config.execution
    with StopRequest(str(cell)) as stop:
        evaluation = gather(
            _attacked(plan, cell, recipe, device, stop), keep_examples=plan.experiment(cell.experiment).examples
        )
        _refuse_errors(cell, evaluation)
        made = {
            **recipe.metadata(),
            **watch.circumstances(device=describe_device(device), precision=execution.precision),
        }
        examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in evaluation.examples.items()}
        withdraw(cell)
        write_tensors(paths.examples(cell), examples, {**made, DIGEST_KEY: digest_mark(tensor_digest(examples))})
        write_table(paths.samples(cell), evaluation.rows, made)
        sweep(cell)
    counts = evaluation.rows["status"].value_counts().to_pylist()
    log.info("%s: %s", cell, ", ".join(f"{count['counts']} {count['values']}" for count in counts))


def run_shard(plan: Plan, cell: Cell, recipe: Recipe, name: str) -> None:
    """Attack the samples of shard I/N and keep them as finished parts, which `run` gathers. Raises as `run` does."""
    shard = Shard.parse(name)
    device = open_device(plan.config.execution)
    with StopRequest(str(cell)) as stop:
        parts = _attacked(plan, cell, recipe, device, stop, shard=shard)
        if parts:
            _refuse_errors(cell, gather(parts))


def _attacked(
    plan: Plan, cell: Cell, recipe: Recipe, device: torch.device, stop: StopRequest, *, shard: Shard | None = None
) -> list[EvaluationPart]:
    """Give every part of a cell, or those that one shard still had to do, keeping each as it is finished."""
    settings, execution = plan.experiment(cell.experiment), plan.config.execution
    attack = settings.attacks[cell.probe]
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    images, labels = to_unit(split.images[: settings.samples]), split.labels[: settings.samples]
    kept = FinishedParts(paths.partial(cell, recipe.string), recipe=recipe.string)
    parts = kept.load()
    finished = [(part.start, part.stop) for part in parts]
    wanted = pieces(len(images), part_size=PART_SIZES.get(device.type, 256), shards=attack.shards, shard=shard)
    left = remaining(wanted, finished)
    if shard:
        parts = []
    title, total = f"{cell} shard {shard.number}/{shard.count}" if shard else str(cell), sum(b - a for a, b in wanted)
    done = total - sum(b - a for a, b in left)
    if done:
        log.info("%s: %d of %d samples are finished already", title, done, total)
    if not left:
        return parts
    with progress(title, total, "samples") as report:
        report.advance(done)
        for part in evaluate_parts(
            load_model(paths.model_folder(cell.model), device=device),
            images,
            labels,
            AttackPlan(cell.probe, attack.attack, attack.norm, attack.epsilons, attack.surrogate, attack.seed),
            identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
            device=device,
            precision=execution.precision,
            batch_size=execution.attack_batch_size,
            pieces=left,
            keep_examples=settings.examples,
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
    raise AttackError(problem, where=str(cell), remedy="mend the attack, or choose another")
