"""Paths of every artifact, as pure functions of its ids, relative to the working folder of a run.

The functions are cached: a graph of ten thousand cells asks for each path several times.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from gauntlet.config.datasets import Dataset
from gauntlet.core.provenance.digests import digest_json
from gauntlet.pipeline.stage import Cell

DATA = Path("data")
RESULTS = Path("results")
LOGS = Path("logs")
CONTROLLER = LOGS / "controller"
FROZEN_CODE = CONTROLLER / "code"

SPLITS = ("train", "validation", "test")
FIGURE_FORMATS = ("pdf", "svg", "png")
TABLE_FILES = ("table.tex", "macros.tex", "table.md", "table.csv")
EFFECT_FILES = ("effects.tex", "effects.md", "effects.csv")
PUBLISHED_FILES = ("published.tex", "published.md", "published.csv")


def dataset_id(dataset: Dataset) -> str:
    """Return the name of a stored data set: its source and a digest of everything that decides its bytes."""
    readable = re.sub(r"[^a-z0-9_]+", "-", dataset.source.name.lower())
    named = dataset.source.options.get("name")
    if isinstance(named, str):
        readable += "-" + re.sub(r"[^a-z0-9_]+", "-", named.lower())
    return f"{readable}-{digest_json(dataset.as_dict())[:8]}"


@cache
def data_folder(dataset: str) -> Path:
    """Return the folder of a stored data set: one safetensors file per split and a manifest."""
    return DATA / dataset


def data_file(dataset: str, split: str) -> Path:
    """Return the file of one split of a data set."""
    return data_folder(dataset) / f"{split}.safetensors"


@cache
def data_manifest(dataset: str) -> Path:
    """Return the manifest that represents a stored data set in the graph: small, and changed only with the data."""
    return data_folder(dataset) / "manifest.json"


@cache
def experiment_folder(experiment: str) -> Path:
    """Return the folder of everything made for one experiment."""
    return RESULTS / experiment


@cache
def model_folder(cell: Cell) -> Path:
    """Return the folder of the trained network of a cell's variant and seed: weights, manifest, history."""
    return experiment_folder(cell.experiment) / "models" / f"variant={cell.variant}" / f"seed={cell.seed}"


@cache
def model_weights(cell: Cell) -> Path:
    """Return the file of the weights of a trained network."""
    return model_folder(cell) / "model.safetensors"


@cache
def model_manifest(cell: Cell) -> Path:
    """Return the manifest that represents a trained network in the graph."""
    return model_folder(cell) / "manifest.json"


@cache
def history(cell: Cell) -> Path:
    """Return the file with one row per epoch of a training."""
    return model_folder(cell) / "history.parquet"


@cache
def cell_file(cell: Cell, folder: str, name: str) -> Path:
    """Return a file of a cell that belongs to one model: `folder` in the experiment's, then a folder for each id."""
    parts = [f"variant={cell.variant}", f"seed={cell.seed}", *([f"{cell.stage.key}={cell.name}"] if cell.name else [])]
    return experiment_folder(cell.experiment).joinpath(folder, *parts, name)


def samples(cell: Cell) -> Path:
    """Return the file with one row per sample of an attack or a certificate on one model."""
    return cell.outputs[0]


def examples(cell: Cell) -> Path:
    """Return the file of the adversarial images kept of one attack on one model."""
    return samples(cell).with_name("examples.safetensors")


def probes(cell: Cell) -> Path:
    """Return the file of the measurements of the probes of one model."""
    return cell_file(cell, "diagnostics", "probes.parquet")


def inspection(cell: Cell) -> Path:
    """Return the file of the arrays that the parts of one model compute, for figures."""
    return cell_file(cell, "inspections", "inspection.parquet")


def evaluations(experiment: str) -> Path:
    """Return the file of every sample of every attack of an experiment."""
    return experiment_folder(experiment) / "evaluations.parquet"


def summary(experiment: str) -> Path:
    """Return the file of accuracies with intervals, per attack and ε."""
    return experiment_folder(experiment) / "summary.parquet"


def certified(experiment: str) -> Path:
    """Return the file of certified accuracies with intervals, per certificate and radius."""
    return experiment_folder(experiment) / "certified.parquet"


def attacks(experiment: str) -> Path:
    """Return the file of success, cost and optimality of every attack on every model."""
    return experiment_folder(experiment) / "attacks.parquet"


def comparisons(experiment: str) -> Path:
    """Return the file of comparisons of all pairs of variants: differences with intervals and p-values."""
    return experiment_folder(experiment) / "comparisons.parquet"


def choices(experiment: str) -> Path:
    """Return the file of the candidates of every chosen model, with their validation figures."""
    return experiment_folder(experiment) / "choices.parquet"


def variants(experiment: str) -> Path:
    """Return the file of the variants of an experiment and the level that each has of every factor of its grid."""
    return experiment_folder(experiment) / "variants.parquet"


def effects(experiment: str) -> Path:
    """Return the file of the effects of factors: differences between levels and interactions, over matched settings."""
    return experiment_folder(experiment) / "effects.parquet"


def published(experiment: str) -> Path:
    """Return the file of published numbers next to the measured ones; only where the experiment has some."""
    return experiment_folder(experiment) / "published.parquet"


def origins(experiment: str) -> Path:
    """Return the file of the origin of every model, attack, certificate and probe: recipe, inputs, commit, time."""
    return experiment_folder(experiment) / "origins.parquet"


def table(experiment: str, suffix: str) -> Path:
    """Return the file of the whole summary, as `csv` or `md`."""
    return experiment_folder(experiment) / f"table.{suffix}"


def certificates(experiment: str) -> Path:
    """Return the file of every sample of every certificate of an experiment."""
    return experiment_folder(experiment) / "certificates.parquet"


def diagnostics(experiment: str) -> Path:
    """Return the file of every check of gradient masking on every model, with its verdict."""
    return experiment_folder(experiment) / "diagnostics.parquet"


def counterexamples(experiment: str) -> Path:
    """Return the file of samples fooled within their certified radius; it exists only if there are any."""
    return experiment_folder(experiment) / "counterexamples.parquet"


def aggregates(experiment: str) -> list[Path]:
    """List every file that aggregation makes; the first records what made them all."""
    tables = [table(experiment, suffix) for suffix in ("csv", "md")]
    rows = [evaluations(experiment), certificates(experiment)]
    others = [attacks(experiment), certified(experiment), comparisons(experiment), diagnostics(experiment)]
    factors = [variants(experiment), effects(experiment)]
    return [summary(experiment), *rows, *others, choices(experiment), *factors, origins(experiment), *tables]


def figure(experiment: str, name: str, suffix: str) -> Path:
    """Return the file of one figure in one format."""
    return experiment_folder(experiment) / "figures" / f"{name}.{suffix}"


def paper_table(experiment: str, name: str) -> Path:
    """Return one file of the tables for a paper."""
    return experiment_folder(experiment) / "tables" / name


def report(experiment: str) -> Path:
    """Return the file of the page."""
    return experiment_folder(experiment) / "report.html"


def partial(cell: Cell, recipe: str) -> Path:
    """Return the folder of partial results of an unfinished cell, next to its files; each recipe has its own."""
    return cell.outputs[0].parent / f".partial-{recipe.removeprefix('sha256:')[:16]}"


def log(cell: Cell, shard: int = 1, shards: int = 1) -> Path:
    """Return the log of the last attempt of a cell, or of one of its shards."""
    ids = [cell.stage.name, cell.variant, str(cell.seed) if cell.variant else "", cell.name]
    ids += [f"{shard}-of-{shards}"] if shards > 1 else []
    return LOGS / (cell.experiment or "data") / (".".join(part for part in ids if part) + ".log")


def prediction(cell: Cell) -> Path:
    """Return the file of the predicted duration of a cell, measured on a few samples."""
    return log(cell).with_suffix(".predicted.json")


def progress_file(cell: Cell, shard: int = 1, shards: int = 1) -> Path:
    """Return the progress record of the process that runs a cell, or one shard of it; removed when it ends."""
    return log(cell, shard, shards).with_suffix(".progress.json")
