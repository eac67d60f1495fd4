"""How long aggregation takes over so many rows, and how much memory: 50 variants, 20 attacks, 5 seeds, a certificate.

Every cell gets a file of its own, made up, where a run leaves it; each step is one that `gauntlet aggregate` takes, in
a process of its own. 100 million rows need 9 GB of disk.

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


def models() -> Iterator[Cell]:
    """List the models of the plan."""
    return (Cell(catalog.stage("train"), NAME, variant, seed) for variant in DESIGN.variants for seed in DESIGN.seeds)


def probed(model: Cell, stage: str, names: Iterator[str]) -> list[Cell]:
    """List the cells of one model."""
    return [Cell(catalog.stage(stage), NAME, model.variant, model.seed, name) for name in names]


def evaluated(model: Cell) -> list[Cell]:
    """List the attacks on a model."""
    return probed(model, "evaluate", (attack.name for attack in ATTACKS))


def certified(model: Cell) -> list[Cell]:
    """List the certificates of a model."""
    return probed(model, "certify", (one.name for one in DESIGN.certificates))


def make_up(samples: int) -> None:
    """Write the file of every cell; distances, confidences and hashes are as hard to compress as real ones."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 10, samples)
    hashes = pa.array([f"{number:016x}" for number in draw.integers(0, 2**63, samples)])
    same = {"index": np.arange(samples), "label": label, "sample_hash": hashes}
    for model in models():
        wrong = draw.random(samples) < 0.05
        same |= {"clean_prediction": (label + wrong) % 10, "clean_confidence": draw.random(samples, np.float32)}
        hard = draw.lognormal(0, 0.7, samples)
        for cell, attack in zip(evaluated(model), ATTACKS, strict=True):
            columns = same | attacked_columns(draw, hard * draw.lognormal(0, 0.15, samples), wrong, attack)
            write_table(paths.samples(cell), rows_of(cell, attack.norm, columns, EVALUATION_SCHEMA), {})
        for cell in certified(model):
            columns = same | {
                "radius": np.where(wrong, 0, 0.01 * hard),
                "status": named(wrong, "certified", "already_wrong"),
            }
            write_table(paths.samples(cell), rows_of(cell, "l2", columns, CERTIFICATE_SCHEMA), {})


def attacked_columns(draw: np.random.Generator, least: np.ndarray, wrong: np.ndarray, attack: AttackDesign) -> dict:
    """Let samples fall at a distance, or at the next budget of a grid."""
    samples = len(least)
    distance = least * (0.08 if attack.norm == "linf" else 0.5)
    if attack.epsilons:
        levels = np.asarray([*attack.epsilons, np.inf])
        distance = levels[np.searchsorted(levels, distance)]
    fooled = ~wrong & np.isfinite(distance)
    status = np.where(wrong, 2, np.where(fooled, 0, 1))
    status[draw.integers(0, samples, samples // 10_000)] = 3
    epsilon = np.where(status == 2, 0, np.where(status == 0, distance, np.nan))
    size = np.where(status == 0, distance, 0)
    counts = {name: draw.integers(0, 80, samples) for name in ("forwards", "backwards", "l0")}
    none = dict.fromkeys(("zero_gradients", "nonfinite_gradients"), np.zeros(samples, np.int64))
    return {
        **none,
        **counts,
        **{norm: size * draw.uniform(0.8, 1.0, samples) for norm in ("l1", "l2", "linf")},
        attack.norm: size,
        "adversarial_prediction": draw.integers(0, 10, samples),
        "epsilon": pa.array(epsilon, pa.float32(), from_pandas=True),
        "adversarial_confidence": draw.random(samples, np.float32),
        "status": named(status, "adversarial", "robust", "already_wrong", "error"),
    }


def named(numbers: np.ndarray, *names: str) -> pa.Array:
    """Put names in place of their numbers."""
    return pa.array(names).take(pa.array(numbers, pa.int32()) if numbers.dtype != bool else pa.array(numbers + 0))


def rows_of(cell: Cell, norm: str, columns: dict, schema: pa.Schema) -> pa.Table:
    """Build a cell's table."""
    samples = len(columns["label"])
    ids = {"experiment": NAME, "variant": cell.variant, "seed": cell.seed, "norm": norm}
    probe = "certificate" if cell.stage.name == "certify" else "attack"
    same = {name: pa.repeat(value, samples) for name, value in {**ids, probe: cell.name}.items()}
    every = columns | same
    return pa.table([pa.array(every[field.name]).cast(field.type, safe=False) for field in schema], schema=schema)


def combine_all() -> None:
    """Gather the cells into one file of attacks, and one of certificates."""
    for cells, out in ((evaluated, paths.evaluations(NAME)), (certified, paths.certificates(NAME))):
        combine({cell: paths.samples(cell) for model in models() for cell in cells(model)}, out, design=DESIGN)


def refute() -> None:
    """Hold every certificate against the attacks on its model; those of another classifier bound nothing."""
    for model in models():
        attacked = pa.concat_tables([read_table(paths.samples(cell)) for cell in evaluated(model)])
        for cell in certified(model):
            find_counterexamples(read_table(paths.samples(cell)), attacked, exclude=[])


def measure() -> None:
    """Tell what each attack achieved and cost."""
    runs = {key: AttackRun(12.3, "gauntlet", "0.1") for key in DESIGN.cells()}
    measured = measure_attacks(paths.evaluations(NAME), runs)
    write_table(paths.attacks(NAME), measured, {})


def diagnose() -> None:
    """Compare the attacks on each model."""
    tables = []
    facts = {one.name: ComparedAttack(one.name, one.norm, steps=10, epsilons=one.epsilons) for one in ATTACKS}
    for model in models():
        columns = (*COLUMNS, *GRADIENT_COLUMNS.values())
        rows = [(facts[cell.name], read_columns(paths.samples(cell), columns)) for cell in evaluated(model)]
        tables.append(measurement_table(compare_attacks(rows), experiment=NAME, variant=model.variant, seed=model.seed))
    write_table(paths.diagnostics(NAME), add_verdicts(pa.concat_tables(tables)), {})


def summarise_all() -> None:
    """Give every accuracy with its intervals."""
    flags = collect_flags(read_table(paths.diagnostics(NAME)))
    write_table(paths.summary(NAME), summarize(paths.evaluations(NAME), flags=flags), {})


def certify() -> None:
    """Give every certified accuracy with its intervals."""
    write_table(paths.certified(NAME), certified_accuracies(paths.certificates(NAME)), {})


def compare_all() -> None:
    """Compare all pairs of variants."""
    told = read_table(paths.certified(NAME))
    compared = compare_variants(paths.evaluations(NAME), paths.certificates(NAME), certified=told)
    write_table(paths.comparisons(NAME), compared, {})


def together() -> None:
    """Take all steps in one process."""
    for step in STEPS.values():
        step()


STEPS = {
    "combined": combine_all,
    "attacks measured": measure,
    "diagnostics": diagnose,
    "summary": summarise_all,
    "certified accuracies": certify,
    "comparisons": compare_all,
    "certificates held against attacks": refute,
}


def alone(what: str, work: Callable[..., None], *given: object) -> None:
    """Do something in a fresh process, and say how long it took and its peak memory."""
    process = multiprocessing.get_context("spawn").Process(target=reported, args=(what, work, *given))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{what}: exit code {process.exitcode}")


def reported(what: str, work: Callable[..., None], *given: object) -> None:
    """Do something and print what it took; the interpreter and its libraries are in the memory."""
    start = time.monotonic()
    work(*given)
    wall, used = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{what:<36} {wall:7.1f} s  CPU {used.ru_utime + used.ru_stime:7.1f} s  {used.ru_maxrss / 2**20:5.2f} GiB",
        flush=True,
    )


def main() -> None:
    """Make up the cells, then take one step after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000_000, help="of all attacks together")
    parser.add_argument("--together", action="store_true", help="all steps in one process, as the stage takes them")
    parser.add_argument("--folder", type=Path, help="keep the files there, and use them again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        samples = asked.rows // (VARIANTS * len(ATTACKS) * SEEDS)
        print(f"{samples} samples, {samples * VARIANTS * len(ATTACKS) * SEEDS} rows", flush=True)
        if not paths.experiment_folder(NAME).is_dir():
            alone("made up", make_up, samples)
        for what, step in {"together": together}.items() if asked.together else STEPS.items():
            alone(what, step)
        print(f"evaluations.parquet {paths.evaluations(NAME).stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
