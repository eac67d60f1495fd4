"""From the validation figures of candidates to the model of the best one, as training writes models."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from gauntlet.config.choices import Choice
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.core.files import write_json
from gauntlet.core.parquet import read_metadata, read_table, write_table
from gauntlet.core.provenance.recipes import CHOSEN_RECIPE_KEY, DIGEST_KEY, RECIPE_KEY, digest_mark
from gauntlet.core.provenance.run_metadata import Stopwatch
from gauntlet.core.tensors import read_tensors, write_tensors
from gauntlet.learning.training.choice import ValidationFigures, best_candidate, kept_figures, mean_score
from gauntlet.learning.training.history import VOLATILE
from gauntlet.pipeline import paths
from gauntlet.pipeline.manifests import read_manifest
from gauntlet.pipeline.stage import Cell, CellJob
from gauntlet.pipeline.stages.outputs import sweep, withdraw
from gauntlet.pipeline.stages.train.chosen import KEPT_EPOCH, RECORD

log = logging.getLogger("gauntlet")

_RUN_METADATA = ("device", "precision", "arithmetic", "determinism", KEPT_EPOCH)
"""Entries about the training of the chosen model that its copy keeps."""


def run(job: CellJob) -> None:
    """Publish the weights, manifest and history of the best candidate, and the record of the choice in the manifest.

    Raises GauntletError if no candidate has a finite figure.
    """
    watch = Stopwatch()
    cell, choice = job.cell, job.experiment.choices[job.cell.variant]
    record = _choose(job, choice)
    source = Cell(cell.stage, cell.experiment, record["chosen"], cell.seed)
    history_metadata = read_metadata(paths.history(source))
    made = {
        **job.recipe.metadata(),
        **watch.run_metadata(),
        **{key: history_metadata[key] for name in _RUN_METADATA if (key := f"gauntlet.{name}") in history_metadata},
    }
    manifest = dict(read_manifest(paths.model_manifest(source)))
    digest = str(manifest.get("digest"))
    tensors = read_tensors(paths.model_weights(source), expected_digest=digest, remedy="train the candidate again")
    history = read_table(paths.history(source))
    withdraw(cell)
    # Figures label the curves of a model by the loss and the adversary of its training.
    of_source = {CHOSEN_RECIPE_KEY: history_metadata[RECIPE_KEY]} if RECIPE_KEY in history_metadata else {}
    write_table(paths.history(cell), history, {**made, **of_source}, volatile=VOLATILE)
    digest_metadata = {DIGEST_KEY: digest_mark(digest.removeprefix("sha256:"))}
    write_tensors(paths.model_weights(cell), tensors, {**made, **digest_metadata})
    write_json(paths.model_manifest(cell), {**manifest, RECORD: record})
    sweep(cell)
    log.info("%s: chose %s, %s", cell, record["chosen"], _reason(record, choice.by))


def _choose(job: CellJob, choice: Choice) -> dict[str, Any]:
    """Compare the candidates and return the record of the choice."""
    cell, settings = job.cell, job.experiment
    rows, scores = [], {}
    for candidate in choice.chosen_from:
        seeds = settings.seeds_of(candidate) if choice.over == "all_seeds" else (cell.seed,)
        figures = {seed: _figures(job, Cell(cell.stage, cell.experiment, candidate, seed)) for seed in seeds}
        scores[candidate] = mean_score(list(figures.values()), choice.by)
        rows.append({"variant": candidate, "score": scores[candidate], **asdict(figures[cell.seed])})
    chosen = best_candidate(scores, choice.by)
    if chosen is None:
        problem = f"no candidate has a finite {choice.by.replace('_', ' ')}: {', '.join(scores)}"
        raise GauntletError(problem, where=str(cell), remedy="change their training, or what they are chosen `by`")
    equals = [name for name, score in scores.items() if score == scores[chosen] and name != chosen]
    return {"chosen": chosen, "by": choice.by, "over": choice.over, "equals": equals, "candidates": rows}


def _figures(job: CellJob, model: Cell) -> ValidationFigures:
    """Read the validation figures of a candidate's model.

    Raises InputError for a file that does not hold them.
    """
    path = paths.history(model)
    metadata = read_metadata(path)
    try:
        if job.experiment.networks[model.variant].is_adopted:
            return ValidationFigures(validation_accuracy=float(metadata["gauntlet.validation_accuracy"]))
        return kept_figures(read_table(path), int(metadata[f"gauntlet.{KEPT_EPOCH}"]))
    except (KeyError, ValueError) as error:
        problem = "the file does not hold the validation figures of the model"
        raise InputError(problem, where=str(path), remedy=f"make {model} again, with `--force`") from error


def _reason(record: dict[str, Any], by: str) -> str:
    scores = {row["variant"]: row["score"] for row in record["candidates"]}
    mean = "mean " if record["over"] == "all_seeds" else ""
    text = f"{mean}{by.replace('_', ' ')} {scores[record['chosen']]:.4g} of {len(scores)} candidates"
    return f"{text}, the first of {len(record['equals']) + 1} equal ones" if record["equals"] else text
