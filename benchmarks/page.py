"""How large the page of a large experiment is, of 50 variants, 20 attacks, 5 seeds, and how soon a browser loads it.

Tables and images are made up in a temporary folder. Needs Chromium and its driver (tests/support/install/browser.sh).

    python benchmarks/page.py [--variants 50] [--attacks 20] [--seeds 5] [--samples 100] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from tests.support.cells import make_cell

sys.path.insert(0, str(Path(__file__).parents[1]))

from gauntlet.core.parquet import read_table, write_table
from gauntlet.core.provenance.recipes import Recipe
from gauntlet.pipeline.stage import Cell
from gauntlet.reporting.aggregation import (
    ATTACKS_VOLATILE,
    ORIGINS_VOLATILE,
    AttackDesign,
    AttackRun,
    measure_attacks,
    read_origins,
    summarize,
)
from gauntlet.reporting.figures.availability import available_figures
from gauntlet.reporting.figures.drawing import write_figure
from gauntlet.reporting.figures.results_files import find_inputs
from gauntlet.reporting.page import write_report
from gauntlet.robustness.diagnostics.checks import CHECKS, add_verdicts, collect_flags
from gauntlet.robustness.diagnostics.measurements import Measurement, measurement_table
from gauntlet.robustness.inspection.arrays import array_table
from tests.support import browser, synthetic

LINF = (0.01, 0.03, 0.1, 0.2, 0.3)
L2 = (0.25, 0.5, 1.0, 2.0, 3.0)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    start = time.monotonic()
    yield
    print(f"{what:<44} {time.monotonic() - start:8.1f} s")


def plan_of(variants: int, attacks: int, seeds: int) -> synthetic.ExperimentDesign:
    """Plan an experiment whose attacks are half in one norm and half in another, two of them of least distance."""
    grid = [("linf", LINF), ("l2", L2)]
    planned = [AttackDesign(f"attack_{number:02}", *grid[number % 2]) for number in range(attacks - 2)]
    names = ["lipschitz", *(f"a_variant_with_a_name_{number:02}" for number in range(variants - 1))]
    planned[0] = AttackDesign("transferred", *grid[0], sources=("lipschitz",))
    planned += [AttackDesign("least_linf", "linf", None), AttackDesign("least_l2", "l2", None)]
    return synthetic.plan(names, tuple(range(seeds)), planned, experiment="large")


def with_recipe(path: Path, cell: Cell) -> None:
    """Give a cell's file the metadata that a real one carries."""
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    attack = {"name": "pgd", "norm": "linf", "epsilons": LINF, "steps": 40, "restarts": 2, "loss": cell.name}
    modules = {f"gauntlet.module_{number}": "0123456789abcdef" for number in range(60)}
    inputs = {f"results/large/models/variant={cell.variant}/seed={cell.seed}/manifest.json": "sha256:" + "0" * 64}
    made = {"gauntlet.commit": "c0ffee" * 6 + "beef", "gauntlet.dirty": "false", "gauntlet.seconds": "12.345"}
    recipe = Recipe(cell.stage, {**ids, "attack": attack}, modules, inputs)
    write_table(path, read_table(path), {**recipe.metadata(), **made, "gauntlet.finished": "2026-01-01T00:00:00Z"})


def write_images(path: Path, indices: np.ndarray) -> None:
    """Keep images as large as those of CIFAR-10, which compress as badly as photographs."""
    draw = np.random.default_rng(0)
    images = draw.random((len(indices), 3, 32, 32), np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    moved = np.clip(images + draw.normal(0, 0.05, images.shape), 0, 1).astype(np.float32)
    save_file({"original": images, "adversarial": moved, "index": indices}, path)


def write_tables(folder: Path, plan: synthetic.ExperimentDesign, samples: int) -> None:
    """Make up everything that the page reads, where an experiment has it."""
    files = synthetic.write_evaluations(folder / "cells", plan, samples=samples)
    models = [make_cell("train", plan.experiment, variant, seed) for variant in plan.variants for seed in plan.seeds]
    histories = {cell: place(folder / "models", cell) / "history.parquet" for cell in models}
    for cell, path in histories.items():
        write_table(path, synthetic.history(cell), {})
    for cell, path in {**histories, **files}.items():
        with_recipe(path, cell)
    write_table(folder / "origins.parquet", read_origins({**histories, **files}), {}, volatile=ORIGINS_VOLATILE)
    certified = {}
    for cell in models:
        certificate = make_cell("certify", plan.experiment, cell.variant, cell.seed, "smooth")
        certified[certificate] = folder / "cells" / cell.variant / f"certificate-{cell.seed}.parquet"
        write_table(certified[certificate], synthetic.smoothed(certificate, samples=samples), {})
    synthetic.combine(certified, folder / "certificates.parquet", design=plan)
    for cell, path in files.items():
        if cell.seed == plan.seeds[0]:
            fooled = np.flatnonzero(np.asarray(read_table(path)["status"].to_pylist()) == "adversarial")
            kept = place(folder / "evaluations", cell) / f"attack={cell.name}" / "examples.safetensors"
            write_images(kept, fooled[:12].astype(np.int64))
    synthetic.combine(files, folder / "evaluations.parquet", design=plan)
    diagnostics = pa.concat_tables([add_verdicts(measured(cell)) for cell in models])
    write_table(folder / "diagnostics.parquet", diagnostics, {})
    summary = summarize(folder / "evaluations.parquet", flags=collect_flags(diagnostics))
    write_table(folder / "summary.parquet", summary, plan.metadata())
    for variant in plan.variants:
        model = make_cell("inspect", plan.experiment, variant, plan.seeds[0])
        shown = synthetic.arrays(variant, filters=32, side=32)
        whose = {"experiment": plan.experiment, "variant": variant, "seed": model.seed}
        write_table(place(folder / "inspections", model) / "inspection.parquet", array_table(shown, **whose), {})
    makings = {key: AttackRun(12.3, "gauntlet", "0.1.0") for key in plan.cells()}
    attacks = measure_attacks(folder / "evaluations.parquet", makings)
    write_table(folder / "attacks.parquet", attacks, {}, volatile=ATTACKS_VOLATILE)


def measured(model: Cell) -> pa.Table:
    """Make up what diagnostics measure of a model: every check in two norms, of which a tenth fails."""
    draw = np.random.default_rng([model.seed, sum(map(ord, model.variant))])
    rows = [
        Measurement(name, norm, check.fail * 1.01 if draw.random() < 0.1 else 0.0, 50, evidence="made up, " * 8)
        for name, check in CHECKS.items()
        for norm in ("linf", "l2")
    ]
    return measurement_table(rows, experiment=model.experiment, variant=model.variant, seed=model.seed)


def place(folder: Path, cell: Cell) -> Path:
    """Name the folder of a model's files."""
    return folder / f"variant={cell.variant}" / f"seed={cell.seed}"


def load(page: Path, times: int = 3) -> None:
    """Load the page in a fresh browser each time, as its first page."""
    for _ in range(times):
        with browser.open_browser() as one:
            start = time.monotonic()
            one.open(page)
            found = one.run_script("return document.querySelectorAll('#cells-table tbody tr').length")
            one.run_script("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            seconds = time.monotonic() - start
            start = time.monotonic()
            one.run_script(
                "document.querySelectorAll('#cells-table .sort')[5].click(); return document.body.offsetHeight"
            )
            sorting = time.monotonic() - start
            print(f"loaded and drawn {seconds:.2f} s, {found} cells sorted {sorting:.2f} s", *one.console_messages())


def main() -> None:
    """Make the tables, draw, write the page, and load it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("variants", 50), ("attacks", 20), ("seeds", 5), ("samples", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="a folder for tables and page, used again as it is")
    asked = parser.parse_args()
    plan = plan_of(asked.variants, asked.attacks, asked.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        if not (folder / "attacks.parquet").is_file():
            with timed(f"{len(list(plan.cells()))} cells made up"):
                write_tables(folder, plan, asked.samples)
        inputs = find_inputs(folder / "evaluations.parquet")
        with timed("figures drawn"):
            figures = {
                name: write_figure(name, inputs, folder / "figures", formats=("svg",))[0]
                for name in available_figures(inputs)
            }
        with timed("page written"):
            write_report(folder / "report.html", inputs, figures=figures, mark="gauntlet-cell:sha256:" + "0" * 64)
        drawn = sum(path.stat().st_size for path in figures.values())
        size = (folder / "report.html").stat().st_size
        print(f"page {size / 1e6:.1f} MB, of which figures {4 / 3 * drawn / 1e6:.1f} MB")
        for name, path in figures.items():
            print(f"  {name:<28} {path.stat().st_size / 1e6:.2f} MB")
        print(f"peak memory of all this {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
        load(folder / "report.html")


if __name__ == "__main__":
    main()
