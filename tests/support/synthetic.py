"""Tables like those of a real experiment, drawn from seeds: variants and attacks of different strengths."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import save_file

from gauntlet.core.parquet import write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.pipeline.stage import Cell
from gauntlet.reporting.aggregation import AttackDesign, CertificateDesign, ExperimentDesign, combine, summarize
from gauntlet.reporting.figures.inputs import InspectionFile
from gauntlet.robustness.inspection.arrays import InspectedArray, array_table
from tests.support.cells import make_cell

NORMS = ("l0", "l1", "l2", "linf")
VARIANTS = ("softmax", "ecc", "hydra_ecc", "lipschitz")
LINF = (0.01, 0.03, 0.1, 0.3)
L2 = (0.1, 0.3, 1.0, 3.0)
ATTACKS = (
    AttackDesign("fgsm", "linf", LINF),
    AttackDesign("pgd", "linf", LINF),
    AttackDesign("spsa", "linf", (0.1,)),
    AttackDesign("pgd_l2", "l2", L2),
    AttackDesign("cw", "l2", None),
    AttackDesign("noise", "l2", L2),
)
STRENGTH = {"fgsm": 1.6, "pgd": 1.0, "spsa": 1.3, "pgd_l2": 1.1, "cw": 1.0, "noise": 8.0}
ROBUSTNESS = {"softmax": 0.05, "ecc": 0.08, "hydra_ecc": 0.06, "lipschitz": 0.14}


def plan(
    variants: Sequence[str] = VARIANTS,
    seeds: Sequence[int] = (0, 1, 2),
    attacks: Sequence[AttackDesign] = ATTACKS,
    experiment: str = "digits",
) -> ExperimentDesign:
    """Plan an experiment of four variants, three seeds and six attacks in two norms."""
    return ExperimentDesign(experiment, tuple(variants), tuple(seeds), tuple(attacks), certificates_of(variants))


def certificates_of(variants: Sequence[str]) -> tuple[CertificateDesign, ...]:
    """Plan a model certificate for the Lipschitz variant, and a smoothed one for all variants."""
    margin = CertificateDesign("margin", "l2", "model", ("lipschitz",))
    return (
        *([margin] if "lipschitz" in variants else []),
        CertificateDesign("smooth", "l2", "smoothed", tuple(variants)),
    )


def cells(of: ExperimentDesign) -> list[Cell]:
    """List the evaluation cells of a plan."""
    return [make_cell("evaluate", of.experiment, *key) for key in of.cells()]


def evaluation(
    cell: Cell, attack: AttackDesign, *, samples: int = 200, clean: float = 0.95, errors: int = 0, classes: int = 10
) -> pa.Table:
    """Draw the rows of one cell; a sample is about as hard for all attacks of one model."""
    model = np.random.default_rng([_number(cell.variant), cell.seed])
    own = np.random.default_rng([_number(cell.variant), cell.seed, _number(attack.name)])
    label = np.random.default_rng(0).integers(0, classes, samples)
    correct = model.random(samples) < clean
    hardness = model.lognormal(0, 0.7, samples) * ROBUSTNESS.get(cell.variant, 0.08) * (1 + 0.03 * cell.seed)
    scale = STRENGTH.get(attack.name, 1.0) * {"linf": 1.0, "l2": 6.0}.get(attack.norm, 1.0)
    measured = hardness * scale * own.lognormal(0, 0.15, samples)
    if attack.epsilons is not None:
        grid = np.asarray(attack.epsilons)
        position = np.searchsorted(grid, measured)
        measured = np.where(position < len(grid), grid[np.minimum(position, len(grid) - 1)], np.nan)
    status = np.where(~correct, "already_wrong", np.where(np.isnan(measured), "robust", "adversarial")).astype(object)
    status[own.permutation(samples)[:errors]] = "error"
    epsilon = np.where(status == "already_wrong", 0.0, np.where(status == "adversarial", measured, np.nan))
    distance = np.where(status == "adversarial", measured, 0.0)
    wrong = (label + 1 + own.integers(0, classes - 1, samples)) % classes
    clean_prediction = np.where(correct, label, wrong)
    columns = {
        **_identity(cell, "attack", attack.norm, samples),
        "label": label,
        "clean_prediction": clean_prediction,
        "adversarial_prediction": np.where(status == "adversarial", wrong, clean_prediction),
        "epsilon": pa.array(epsilon, pa.float64(), from_pandas=True),
        **{norm: distance * (0.97 if attack.epsilons and norm != "linf" else 1.0) for norm in NORMS},
        "clean_confidence": model.uniform(0.5, 1, samples),
        "adversarial_confidence": own.uniform(0.3, 1, samples),
        "forwards": own.integers(1, 80, samples),
        "backwards": own.integers(0, 40, samples),
        "zero_gradients": np.zeros(samples, int),
        "nonfinite_gradients": np.zeros(samples, int),
        "status": status,
    }
    return table(columns, EVALUATION_SCHEMA).slice(0, attack.samples)


def certificate(cell: Cell, *, samples: int = 200, classes: int = 10) -> pa.Table:
    """Draw certificates below the distances that `evaluation` draws for the same model."""
    model = np.random.default_rng([_number(cell.variant), cell.seed])
    label = np.random.default_rng(0).integers(0, classes, samples)
    correct = model.random(samples) < 0.95
    hardness = model.lognormal(0, 0.7, samples) * ROBUSTNESS.get(cell.variant, 0.08)
    radius = np.where(correct, hardness * 6 * model.uniform(0.15, 0.5, samples), 0.0)
    columns = {
        **_identity(cell, "certificate", "l2", samples),
        "label": label,
        "clean_prediction": np.where(correct, label, (label + 1) % classes),
        "clean_confidence": model.uniform(0.5, 1, samples),
        "radius": radius,
        "status": np.where(correct, "certified", "already_wrong"),
    }
    return table(columns, CERTIFICATE_SCHEMA)


def smoothed(cell: Cell, *, samples: int = 200, classes: int = 10) -> pa.Table:
    """Draw certificates of a smoothed classifier, which abstains and may exceed the model's distances."""
    own = np.random.default_rng([_number(cell.variant), cell.seed, 11])
    label = np.random.default_rng(0).integers(0, classes, samples)
    kind = own.choice(["certified", "abstained", "already_wrong"], samples, p=[0.8, 0.12, 0.08])
    prediction = np.select([kind == "certified", kind == "abstained"], [label, -1], (label + 1) % classes)
    radius = np.minimum(own.lognormal(-0.7, 0.5, samples) * 10 * ROBUSTNESS.get(cell.variant, 0.08), 0.61)
    columns = {
        **_identity(cell, "certificate", "l2", samples),
        "label": label,
        "clean_prediction": prediction,
        "clean_confidence": own.uniform(0.5, 1, samples),
        "radius": np.where(kind == "certified", radius, 0.0),
        "status": kind,
    }
    return table(columns, CERTIFICATE_SCHEMA)


def history(cell: Cell, *, epochs: int = 30) -> pa.Table:
    """Draw the history of one training; seeds stop at different epochs."""
    draw = np.random.default_rng([_number(cell.variant), cell.seed, 7])
    epoch = np.arange(1, epochs - 3 * cell.seed + 1)
    decay = np.exp(-epoch / (4 + draw.uniform(0, 2)))
    scale, floor = {"softmax": (2.2, 0.12), "lipschitz": (40.0, 0.1)}.get(cell.variant, (0.9, 0.15))
    loss = floor * scale + scale * decay + 0.002 * scale * epoch + draw.normal(0, 0.01 * scale, len(epoch))
    accuracy = np.clip(
        0.97 - 0.8 * decay - 0.02 * (cell.variant == "lipschitz") + draw.normal(0, 0.005, len(epoch)), 0, 1
    )
    kr = 2 * (1 - decay) if cell.variant == "lipschitz" else [None] * len(epoch)
    return pa.table(
        {
            "epoch": pa.array(epoch, pa.int64()),
            "train_loss": loss * 0.9,
            "train_accuracy": np.clip(accuracy + 0.01, 0, 1),
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "robust_validation_accuracy": pa.nulls(len(epoch), pa.float64()),
            "kr": pa.array(kr, pa.float64()),
            "learning_rate": [1e-3] * len(epoch),
            "steps_per_second": [60.0] * len(epoch),
            "seconds": [0.5] * len(epoch),
        }
    )


def table(columns: Mapping[str, object], schema: pa.Schema) -> pa.Table:
    """Return a table of a schema, converting each column."""
    arrays = []
    for field in schema:
        value = columns[field.name]
        arrays.append(value if isinstance(value, pa.Array) else pa.array(value).cast(field.type, safe=False))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_evaluations(
    folder: Path,
    of: ExperimentDesign,
    *,
    samples: int = 200,
    errors: Mapping[str, int] | None = None,
    classes: int = 10,
) -> dict[Cell, Path]:
    """Write the samples of every cell of a plan below a folder."""
    attacks = {attack.name: attack for attack in of.attacks}
    files: dict[Cell, Path] = {}
    for cell in cells(of):
        files[cell] = folder / cell.variant / str(cell.seed) / f"{cell.name}.parquet"
        wrong = (errors or {}).get(cell.name, 0)
        rows = evaluation(cell, attacks[cell.name], samples=samples, errors=wrong, classes=classes)
        write_table(files[cell], rows, {})
    return files


@dataclass(frozen=True)
class Experiment:
    """Files of a synthetic experiment."""

    plan: ExperimentDesign
    evaluations: Path
    summary: Path
    certificates: Path
    histories: dict[tuple[str, int], Path]
    examples: dict[tuple[str, int, str], Path]
    missing: list[Cell]


def write_experiment(
    folder: Path,
    of: ExperimentDesign,
    *,
    samples: int = 200,
    absent: Sequence[Cell] = (),
    image_shape: tuple[int, int, int] = (1, 8, 8),
    classes: int = 10,
) -> Experiment:
    """Write all inputs of figures and page; `absent` cells are planned but not made."""
    files = write_evaluations(folder / "cells", of, samples=samples, classes=classes)
    for cell in absent:
        files[cell].unlink()
    missing = combine(files, folder / "evaluations.parquet", design=of, allow_missing=True)
    write_table(folder / "summary.parquet", summarize(folder / "evaluations.parquet"), of.metadata())
    certified: dict[Cell, Path] = {}
    histories: dict[tuple[str, int], Path] = {}
    examples: dict[tuple[str, int, str], Path] = {}
    for variant in of.variants:
        for seed in of.seeds:
            training = make_cell("train", of.experiment, variant, seed)
            histories[variant, seed] = folder / "histories" / variant / f"{seed}.parquet"
            write_table(histories[variant, seed], history(training), {})
            for one in of.certificates:
                if variant in one.variants:
                    cell = make_cell("certify", of.experiment, variant, seed, one.name)
                    certified[cell] = folder / "certificates" / variant / f"{one.name}-{seed}.parquet"
                    make = smoothed if one.certifies == "smoothed" else certificate
                    write_table(certified[cell], make(cell, samples=samples, classes=classes), {})
            for attack in of.attacks:
                path = folder / "examples" / variant / str(seed) / f"{attack.name}.safetensors"
                examples[variant, seed, attack.name] = path
                cell = make_cell("evaluate", of.experiment, variant, seed, attack.name)
                _write_examples(path, cell, attack, samples, image_shape, classes)
    if certified:
        combine(certified, folder / "certificates.parquet", design=of)
    return Experiment(
        of,
        folder / "evaluations.parquet",
        folder / "summary.parquet",
        folder / "certificates.parquet",
        histories,
        examples,
        missing,
    )


def arrays(
    variant: str,
    *,
    filters: int = 8,
    image_shape: tuple[int, int, int] = (1, 8, 8),
    classes: int = 10,
    passed: Mapping[int, float] | None = None,
) -> list[InspectedArray]:
    """Return inspected arrays: a relu, filters, exciting images, negatives except for softmax, and a transition.

    `passed` has the highest probabilities of classes that the transition passes; all others get small ones then.
    """
    draw = np.random.default_rng([_number(variant), 11])
    image = partial(draw.uniform, 0, 1, image_shape)
    window = (image_shape[0], 3, 3)
    x = np.linspace(-4, 4, 161)
    shares = np.linspace(0, 1, 33)
    ends = np.stack([1 - shares, shares, *[0 * shares] * (classes - 2)])
    if passed:
        ends[:2] = ends[:2] ** 3
        for label in range(2, classes):
            ends[label] = passed.get(label, 0.02 * draw.random()) * np.sin(np.pi * shares) ** (1 + label % 3)
    shown = [
        InspectedArray("activation", "relu", np.stack([x, np.maximum(x, 0), x > 0])),
        *(InspectedArray("filter", "body.0", draw.normal(0, 1, window), number) for number in range(filters)),
        *(
            InspectedArray("unit", "body.0", draw.uniform(0, 1, window), number, None, 0, 1)
            for number in range(filters)
        ),
        *(InspectedArray("patch_mean", "body.0", draw.uniform(0, 1, window), number) for number in range(filters)),
        *(
            InspectedArray("patch", "body.0", draw.uniform(0, 1, window), number, value=share)
            for number in range(filters)
            for share in (0.5, 0.3, 0.2)
        ),
        *(
            InspectedArray(
                "activity", f"body.{layer}", np.linspace(0.4, 1, 21), layer, start=0.4, value=0.06 + layer / 50
            )
            for layer in range(3)
        ),
        InspectedArray("plane", "features", np.add.outer(np.linspace(1, 0, 17), np.linspace(2, 0, 17)), 5),
        InspectedArray("decision", "logits", np.add.outer(np.arange(17) > 8, np.arange(17) > 4)),
        *(InspectedArray("corner", "", image(), number, number % classes) for number in range(3)),
        *_designs("linear relu" if variant == "softmax" else "linear relog(2)"),
        *(InspectedArray("class", "logits", image(), number, number, 0, 1) for number in range(min(10, classes))),
        *(InspectedArray("negative", "overlay", image(), number) for number in range(4) if variant != "softmax"),
        InspectedArray("transition", "probabilities", ends),
        *(
            InspectedArray("step", "", image(), number, {0: 0, 4: 1}.get(number), value=number / 4)
            for number in range(5)
        ),
    ]
    return [replace(one, values=one.values.astype(np.float32)) for one in shown]


def _designs(name: str) -> list[InspectedArray]:
    """Return the arrays of a kind of layer; those of `linear relu` overflow after 32 layers."""
    scales = np.where(np.arange(101) < 32, 16.0 ** np.arange(101), np.inf) if name == "linear relu" else np.ones(101)
    a, b = np.meshgrid(np.linspace(-2, 2, 41), np.linspace(-2, 2, 41))
    return [
        InspectedArray("depth", name, np.stack([scales, np.ones(101)]), value=32 if name == "linear relu" else None),
        InspectedArray("dots", name, 1 / (1 + np.exp(-a - b)), value=0.5),
        InspectedArray("logic", name, np.maximum(0, [a + b, np.minimum(a, b), np.maximum(a, b)])),
    ]


def write_inspections(folder: Path, variants: Sequence[str], **options: Any) -> tuple[InspectionFile, ...]:
    """Write the inspection of the first seed of some variants; `options` are those of `arrays`."""
    found = tuple(InspectionFile(variant, 0, folder / variant / "inspection.parquet") for variant in variants)
    for one in found:
        whose = {"experiment": "digits", "variant": one.variant, "seed": one.seed}
        write_table(one.path, array_table(arrays(one.variant, **options), **whose), {})
    return found


def _write_examples(
    path: Path, cell: Cell, attack: AttackDesign, samples: int, image_shape: tuple[int, int, int], classes: int
) -> None:
    """Write the images of the first fooled samples: blobs placed by their labels."""
    rows = evaluation(cell, attack, samples=samples, classes=classes)
    fooled = np.flatnonzero(np.asarray(rows["status"].to_pylist()) == "adversarial")[:12]
    channels, height, width = image_shape
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    draw = np.random.default_rng(3)
    original, adversarial = [], []
    for row in fooled:
        angle = rows["label"][int(row)].as_py() / classes * 2 * np.pi
        blob = np.exp(-((x - 0.5 * np.cos(angle)) ** 2 + (y - 0.5 * np.sin(angle)) ** 2) * 4)
        image = np.stack([blob] * channels)
        original.append(image)
        adversarial.append(np.clip(image + draw.normal(0, 0.1, image.shape), 0, 1))
    labels, predictions = (rows[name].to_numpy()[fooled] for name in ("label", "adversarial_prediction"))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "original": np.asarray(original, np.float32).reshape(-1, *image_shape),
            "adversarial": np.asarray(adversarial, np.float32).reshape(-1, *image_shape),
            "index": fooled.astype(np.int64),
            "clean_probabilities": _probabilities(labels, classes),
            "adversarial_probabilities": _probabilities(predictions, classes),
        },
        path,
    )


def _probabilities(predictions: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """Return probabilities of classes with these predictions."""
    draws = np.random.default_rng(5).uniform(0, 1, (len(predictions), classes))
    scores = np.eye(classes)[predictions] * (3 if classes == 10 else 8) + draws
    return np.asarray(np.exp(scores) / np.exp(scores).sum(1, keepdims=True), np.float32)


def _identity(cell: Cell, probe: str, norm: str, samples: int) -> dict[str, object]:
    constant = {
        "experiment": cell.experiment,
        "variant": cell.variant,
        "seed": cell.seed,
        probe: cell.name,
        "norm": norm,
    }
    rows: dict[str, object] = {name: [value] * samples for name, value in constant.items()}
    return rows | {"index": np.arange(samples), "sample_hash": [f"{number:016x}" for number in range(samples)]}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6])
