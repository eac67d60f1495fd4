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
from gauntlet.evaluation import AttackPlan, CellIdentity, EvaluationPart, evaluate
from gauntlet.models.weights import load_model
from gauntlet.planning import Plan
from gauntlet.progress import progress
from gauntlet.provenance.circumstances import Stopwatch
from gauntlet.provenance.recipes import DIGEST_KEY, Recipe, digest_mark
from gauntlet.results import write_table
from gauntlet.stages.device import describe_device, open_device
from gauntlet.stages.publishing import withdraw
from gauntlet.tensors import tensor_digest, write_tensors

log = logging.getLogger("gauntlet")


def run(plan: Plan, cell: Cell, recipe: Recipe) -> None:
    """Attack one model and publish the rows and the examples kept. Raises AttackError when any sample went wrong."""
    watch = Stopwatch()
    settings, execution = plan.experiment(cell.experiment), plan.config.execution
    attack = settings.attacks[cell.probe]
    device = open_device(execution)
    network = load_model(paths.model_folder(cell.model), device=device)
    split = load_split(paths.data_folder(paths.dataset_id(settings.dataset)), "test")
    images, labels = to_unit(split.images[: settings.samples]), split.labels[: settings.samples]
    with progress(str(cell), len(images), "samples") as report:

        def on_part(part: EvaluationPart) -> None:
            report.advance(part.stop - part.start)

        evaluation = evaluate(
            network,
            images,
            labels,
            AttackPlan(cell.probe, attack.attack, attack.norm, attack.epsilons, attack.surrogate, attack.seed),
            identity=CellIdentity(cell.experiment, cell.variant, cell.seed),
            device=device,
            precision=execution.precision,
            batch_size=execution.attack_batch_size,
            keep_examples=settings.examples,
            on_part=on_part,
        )
    if evaluation.errors:
        failed = pc.sum(pc.equal(evaluation.rows["status"], "error")).as_py()
        problem = (
            f"{failed} of {len(evaluation.rows)} samples went wrong, so nothing is recorded: {evaluation.errors[0]}"
        )
        raise AttackError(problem, where=str(cell), remedy="mend the attack, or choose another")
    made = {**recipe.metadata(), **watch.circumstances(device=describe_device(device), precision=execution.precision)}
    examples = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in evaluation.examples.items()}
    withdraw(cell)
    write_tensors(paths.examples(cell), examples, {**made, DIGEST_KEY: digest_mark(tensor_digest(examples))})
    write_table(paths.samples(cell), evaluation.rows, made)
    counts = evaluation.rows["status"].value_counts().to_pylist()
    log.info("%s: %s", cell, ", ".join(f"{count['counts']} {count['values']}" for count in counts))
