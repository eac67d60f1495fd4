"""Time and memory of aggregation: 50 variants, 20 attacks, 5 seeds, a certificate.

Writes a synthetic file for every cell, then runs each step of `gauntlet aggregate` in a process of its own. 100 million
rows need 9 GB of disk.

    python benchmarks/summary.py [--rows 100_000_000] [--together] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from gauntlet.core.parquet import read_columns, read_table, write_table
from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.pipeline import paths
from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages import catalog
from gauntlet.reporting.aggregation import (
    AttackDesign,
    AttackRun,
    CertificateDesign,
    ExperimentDesign,
    certified_accuracies,
    combine,
    compare_variants,
    measure_attacks,
    summarize,
)
from gauntlet.robustness.certificates.counterexamples import find_counterexamples
from gauntlet.robustness.diagnostics.attack_comparisons import (
    COLUMNS,
    GRADIENT_COLUMNS,
    ComparedAttack,
    compare_attacks,
)
from gauntlet.robustness.diagnostics.checks import add_verdicts, collect_flags
from gauntlet.robustness.diagnostics.measurements import measurement_table

NAME = "large"
GRIDS = {"linf": (0.01, 0.03, 0.1, 0.2, 0.3), "l2": (0.25, 0.5, 1.0, 2.0, 3.0)}
VARIANTS, SEEDS = 50, 5

ATTACKS = (
    *(AttackDesign(f"attack_{number:02}", *list(GRIDS.items())[number % 2]) for number in range(18)),
    AttackDesign("least_linf", "linf", None),
    AttackDesign("least_l2", "l2", None),
)
NAMES = tuple(f"a_variant_with_a_name_{number:02}" for number in range(VARIANTS))
CERTIFICATES = (CertificateDesign("smooth", "l2", "smoothed", NAMES),)
DESIGN = ExperimentDesign(NAME, NAMES, tuple(range(SEEDS)), ATTACKS, CERTIFICATES)


def model_cells() -> Iterator[Cell]:
    """Yield the cells of all models."""
    return (Cell(catalog.stage("train"), NAME, variant, seed) for variant in DESIGN.variants for seed in DESIGN.seeds)


def attack_cells(model: Cell) -> list[Cell]:
    """Return the cells of the attacks on a model."""
    return [Cell(catalog.stage("evaluate"), NAME, model.variant, model.seed, attack.name) for attack in ATTACKS]


def certificate_cells(model: Cell) -> list[Cell]:
    """Return the cells of the certificates of a model."""
    return [
        Cell(catalog.stage("certify"), NAME, model.variant, model.seed, certificate.name)
        for certificate in CERTIFICATES
    ]


def write_cells(samples: int) -> None:
    """Write a file for every cell; distances, confidences and hashes compress as badly as real ones."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 10, samples)
    hashes = pa.array([f"{number:016x}" for number in draw.integers(0, 2**63, samples)])
    shared = {"index": np.arange(samples), "label": label, "sample_hash": hashes}
    for model in model_cells():
        wrong = draw.random(samples) < 0.05
        shared |= {"clean_prediction": (label + wrong) % 10, "clean_confidence": draw.random(samples, np.float32)}
        hardness = draw.lognormal(0, 0.7, samples)
        for cell, attack in zip(attack_cells(model), ATTACKS, strict=True):
            columns = shared | attack_columns(draw, hardness * draw.lognormal(0, 0.15, samples), wrong, attack)
            write_table(paths.samples(cell), cell_table(cell, attack.norm, columns, EVALUATION_SCHEMA), {})
        for cell in certificate_cells(model):
            columns = shared | {
                "radius": np.where(wrong, 0, 0.01 * hardness),
                "status": take_names(wrong, "certified", "already_wrong"),
            }
            write_table(paths.samples(cell), cell_table(cell, "l2", columns, CERTIFICATE_SCHEMA), {})


def attack_columns(draw: np.random.Generator, hardness: np.ndarray, wrong: np.ndarray, attack: AttackDesign) -> dict:
    """Return the columns of an attack whose distances are proportional to `hardness`, rounded up to its grid."""
    samples = len(hardness)
    distance = hardness * (0.08 if attack.norm == "linf" else 0.5)
    if attack.epsilons:
        levels = np.asarray([*attack.epsilons, np.inf])
        distance = levels[np.searchsorted(levels, distance)]
    fooled = ~wrong & np.isfinite(distance)
    status = np.where(wrong, 2, np.where(fooled, 0, 1))
    status[draw.integers(0, samples, samples // 10_000)] = 3
    epsilon = np.where(status == 2, 0, np.where(status == 0, distance, np.nan))
    size = np.where(status == 0, distance, 0)
    return {
        **dict.fromkeys(("zero_gradients", "nonfinite_gradients"), np.zeros(samples, np.int64)),
        **{name: draw.integers(0, 80, samples) for name in ("forwards", "backwards", "l0")},
        **{norm: size * draw.uniform(0.8, 1.0, samples) for norm in ("l1", "l2", "linf")},
        attack.norm: size,
        "adversarial_prediction": draw.integers(0, 10, samples),
        "epsilon": pa.array(epsilon, pa.float64(), from_pandas=True),
        "adversarial_confidence": draw.random(samples, np.float32),
        "status": take_names(status, "adversarial", "robust", "already_wrong", "error"),
    }


def take_names(numbers: np.ndarray, *names: str) -> pa.Array:
    """Return the names of numbers or booleans."""
    return pa.array(names).take(pa.array(numbers, pa.int32()) if numbers.dtype != bool else pa.array(numbers + 0))


def cell_table(cell: Cell, norm: str, columns: dict, schema: pa.Schema) -> pa.Table:
    """Build the table of a cell."""
    ids = {"experiment": NAME, "variant": cell.variant, "seed": cell.seed, "norm": norm, cell.stage.key: cell.name}
    samples = len(columns["label"])
    every = columns | {name: pa.repeat(value, samples) for name, value in ids.items()}
    return pa.table([pa.array(every[field.name]).cast(field.type, safe=False) for field in schema], schema=schema)


def combine_all() -> None:
    """Combine the cells into a file of evaluations and one of certificates."""
    for cells, out in ((attack_cells, paths.evaluations(NAME)), (certificate_cells, paths.certificates(NAME))):
        combine({cell: paths.samples(cell) for model in model_cells() for cell in cells(model)}, out, design=DESIGN)


def check_certificates() -> None:
    """Check every certificate against the attacks on its model."""
    for model in model_cells():
        attacked = pa.concat_tables([read_table(paths.samples(cell)) for cell in attack_cells(model)])
        for cell in certificate_cells(model):
            find_counterexamples(read_table(paths.samples(cell)), attacked)


def measure() -> None:
    """Measure success, cost and optimality of the attacks."""
    runs = {key: AttackRun(12.3, "gauntlet", "0.1") for key in DESIGN.cells()}
    measured = measure_attacks(paths.evaluations(NAME), runs)
    write_table(paths.attacks(NAME), measured, {})


def diagnose() -> None:
    """Compare the attacks on each model."""
    tables = []
    compared = {
        attack.name: ComparedAttack(attack.name, attack.norm, steps=10, epsilons=attack.epsilons) for attack in ATTACKS
    }
    for model in model_cells():
        columns = (*COLUMNS, *GRADIENT_COLUMNS.values())
        rows = [(compared[cell.name], read_columns(paths.samples(cell), columns)) for cell in attack_cells(model)]
        measurements = compare_attacks(rows)
        tables.append(measurement_table(measurements, experiment=NAME, variant=model.variant, seed=model.seed))
    write_table(paths.diagnostics(NAME), add_verdicts(pa.concat_tables(tables)), {})


def summarize_all() -> None:
    """Compute every accuracy with its intervals."""
    flags = collect_flags(read_table(paths.diagnostics(NAME)))
    write_table(paths.summary(NAME), summarize(paths.evaluations(NAME), flags=flags), {})


def certify() -> None:
    """Compute every certified accuracy with its intervals."""
    write_table(paths.certified(NAME), certified_accuracies(paths.certificates(NAME)), {})


def compare_all() -> None:
    """Compare all pairs of variants."""
    certified = read_table(paths.certified(NAME))
    compared = compare_variants(paths.evaluations(NAME), paths.certificates(NAME), certified=certified)
    write_table(paths.comparisons(NAME), compared, {})


def run_together() -> None:
    """Run all steps in one process."""
    for step in STEPS.values():
        step()


STEPS = {
    "combined": combine_all,
    "attacks measured": measure,
    "diagnostics": diagnose,
    "summary": summarize_all,
    "certified accuracies": certify,
    "comparisons": compare_all,
    "certificates checked against attacks": check_certificates,
}


def run_alone(label: str, step: Callable[..., None], *arguments: object) -> None:
    """Run a step in a new process and print its time and peak memory."""
    process = multiprocessing.get_context("spawn").Process(target=run_timed, args=(label, step, *arguments))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{label}: exit code {process.exitcode}")


def run_timed(label: str, step: Callable[..., None], *arguments: object) -> None:
    """Run a step and print its time and peak memory, which includes the interpreter and its libraries."""
    start = time.monotonic()
    step(*arguments)
    wall, usage = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{label:<36} {wall:7.1f} s  CPU {cpu:7.1f} s  {usage.ru_maxrss / 2**20:5.2f} GiB", flush=True)


def main() -> None:
    """Write the cells, then run one step after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000, help="number of rows of all attacks together")
    parser.add_argument("--together", action="store_true", help="run all steps in one process, as the stage does")
    parser.add_argument("--folder", type=Path, help="folder in which the files are kept and reused")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        samples = options.rows // (VARIANTS * len(ATTACKS) * SEEDS)
        print(f"{samples} samples, {samples * VARIANTS * len(ATTACKS) * SEEDS} rows", flush=True)
        if not paths.experiment_folder(NAME).is_dir():
            run_alone("cells written", write_cells, samples)
        for label, step in {"together": run_together}.items() if options.together else STEPS.items():
            run_alone(label, step)
        print(f"evaluations.parquet {paths.evaluations(NAME).stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
