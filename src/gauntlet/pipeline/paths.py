"""Where every artefact lives, as a pure function of its ids, relative to the folder a run works in.

The functions are cached: a plan of ten thousand cells asks for each path several times.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from gauntlet.config.datasets import Dataset
from gauntlet.config.grid import Cell
from gauntlet.core.provenance.digests import digest_json

DATA = Path("data")
RESULTS = Path("results")
LOGS = Path("logs")
CONTROLLER = LOGS / "controller"

SPLITS = ("train", "validation", "test")
FIGURE_FORMATS = ("pdf", "svg", "png")
TABLE_FILES = ("table.tex", "macros.tex", "table.md", "table.csv")


def dataset_id(dataset: Dataset) -> str:
    """Name a stored split after its source and everything that decides its bytes."""
    readable = re.sub(r"[^a-z0-9_]+", "-", dataset.source.name.lower())
    named = dataset.source.options.get("name")
    if isinstance(named, str):
        readable += "-" + re.sub(r"[^a-z0-9_]+", "-", named.lower())
    return f"{readable}-{digest_json(dataset.as_dict())[:8]}"


@cache
def data_folder(dataset: str) -> Path:
    """The stored split of a data set: one safetensors file a split and a manifest."""
    return DATA / dataset


def data_file(dataset: str, split: str) -> Path:
    """One split of a data set."""
    return data_folder(dataset) / f"{split}.safetensors"


@cache
def data_manifest(dataset: str) -> Path:
    """What stands for a stored split in the graph: small, and the same whenever its bytes are."""
    return data_folder(dataset) / "manifest.json"


@cache
def experiment_folder(experiment: str) -> Path:
    """Everything made for one experiment."""
    return RESULTS / experiment


@cache
def model_folder(cell: Cell) -> Path:
    """A trained network: weights, manifest, history."""
    return experiment_folder(cell.experiment) / "models" / f"variant={cell.variant}" / f"seed={cell.seed}"


@cache
def model_weights(cell: Cell) -> Path:
    """The weights of a trained network."""
    return model_folder(cell) / "model.safetensors"


@cache
def model_manifest(cell: Cell) -> Path:
    """What stands for a trained network in the graph."""
    return model_folder(cell) / "manifest.json"


@cache
def history(cell: Cell) -> Path:
    """One row per epoch of a training."""
    return model_folder(cell) / "history.parquet"


@cache
def samples(cell: Cell) -> Path:
    """One row per sample of an attack or a certificate on one model."""
    folder, key = {"evaluate": ("evaluations", "attack"), "certify": ("certificates", "certificate")}[cell.stage]
    model = experiment_folder(cell.experiment) / folder / f"variant={cell.variant}" / f"seed={cell.seed}"
    return model / f"{key}={cell.name}" / "samples.parquet"


@cache
def examples(cell: Cell) -> Path:
    """The adversarial images kept of one attack on one model."""
    return samples(cell).with_name("examples.safetensors")


@cache
def probes(cell: Cell) -> Path:
    """What the probes of one model measured."""
    folder = experiment_folder(cell.experiment) / "diagnostics"
    return folder / f"variant={cell.variant}" / f"seed={cell.seed}" / "probes.parquet"


@cache
def inspection(cell: Cell) -> Path:
    """What the parts of one model compute, as arrays for figures."""
    folder = experiment_folder(cell.experiment) / "inspections"
    return folder / f"variant={cell.variant}" / f"seed={cell.seed}" / "inspection.parquet"


@cache
def products(cell: Cell) -> tuple[Path, ...]:
    """Every file that a cell makes. The first is the one that says what made it, and is written last."""
    match cell.stage:
        case "prepare":
            return (*(data_file(cell.name, split) for split in SPLITS), data_manifest(cell.name))
        case "train":
            return model_weights(cell), model_manifest(cell), history(cell)
        case "evaluate":
            return samples(cell), examples(cell)
        case "certify":
            return (samples(cell),)
        case "diagnose":
            return (probes(cell),)
        case "inspect":
            return (inspection(cell),)
        case "aggregate":
            return tuple(aggregates(cell.experiment))
        case "figure":
            return tuple(figure(cell.experiment, cell.name, suffix) for suffix in FIGURE_FORMATS)
        case "table":
            return tuple(paper_table(cell.experiment, name) for name in TABLE_FILES)
        case "report":
            return (report(cell.experiment),)


def evaluations(experiment: str) -> Path:
    """Every sample of every attack of an experiment, in one file."""
    return experiment_folder(experiment) / "evaluations.parquet"


def summary(experiment: str) -> Path:
    """Accuracies with intervals, per attack and ε."""
    return experiment_folder(experiment) / "summary.parquet"


def certified(experiment: str) -> Path:
    """Certified accuracies with intervals, per certificate and radius."""
    return experiment_folder(experiment) / "certified.parquet"


def attacks(experiment: str) -> Path:
    """Success, cost and optimality of every attack on every model."""
    return experiment_folder(experiment) / "attacks.parquet"


def comparisons(experiment: str) -> Path:
    """All pairs of variants wherever accuracy is stated: differences with intervals and p-values."""
    return experiment_folder(experiment) / "comparisons.parquet"


def origins(experiment: str) -> Path:
    """What made every model, attack, certificate and probe of an experiment."""
    return experiment_folder(experiment) / "origins.parquet"


def table(experiment: str, suffix: str) -> Path:
    """The whole summary, as `csv` or `md`."""
    return experiment_folder(experiment) / f"table.{suffix}"


def certificates(experiment: str) -> Path:
    """Every sample of every certificate of an experiment, in one file."""
    return experiment_folder(experiment) / "certificates.parquet"


def diagnostics(experiment: str) -> Path:
    """Every check of gradient masking on every model of an experiment, with its verdict."""
    return experiment_folder(experiment) / "diagnostics.parquet"


def counterexamples(experiment: str) -> Path:
    """Samples that an attack fools nearer than their certificate allows; there is no such file when all is well."""
    return experiment_folder(experiment) / "counterexamples.parquet"


def aggregates(experiment: str) -> list[Path]:
    """Every file that aggregation makes; the summary says what made them all."""
    tables = [table(experiment, suffix) for suffix in ("csv", "md")]
    rows = [evaluations(experiment), certificates(experiment)]
    others = [attacks(experiment), certified(experiment), comparisons(experiment), diagnostics(experiment)]
    return [summary(experiment), *rows, *others, origins(experiment), *tables]


def figure(experiment: str, name: str, suffix: str) -> Path:
    """One figure in one format."""
    return experiment_folder(experiment) / "figures" / f"{name}.{suffix}"


def paper_table(experiment: str, name: str) -> Path:
    """One file of the tables for a paper."""
    return experiment_folder(experiment) / "tables" / name


def report(experiment: str) -> Path:
    """The page."""
    return experiment_folder(experiment) / "report.html"


def partial(cell: Cell, string: str) -> Path:
    """What an unfinished making of a cell keeps to go on from: beside its files, and of one recipe only."""
    return products(cell)[0].parent / f".partial-{string.removeprefix('sha256:')[:16]}"


def log(cell: Cell) -> Path:
    """The log of a cell's last attempt."""
    ids = [cell.stage, cell.variant, str(cell.seed) if cell.variant else "", cell.name]
    return LOGS / (cell.experiment or "data") / (".".join(part for part in ids if part) + ".log")


def prediction(cell: Cell) -> Path:
    """How long a cell will probably take, measured on a few samples."""
    return log(cell).with_suffix(".predicted.json")


def progress_file(cell: Cell, shard: int = 1, shards: int = 1) -> Path:
    """Progress of the process that runs a cell, or one shard of it; removed when the process ends."""
    part = f".{shard}-of-{shards}" if shards > 1 else ""
    return log(cell).with_suffix(f"{part}.progress.json")
