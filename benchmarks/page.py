"""Size and load time of the page of a large experiment: 50 variants, 20 attacks, 5 seeds.

Tables and images are synthetic, in a temporary folder. Needs Chromium (tests/support/install/browser.sh).

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
from tests.support.cells import make_cell

LINF = (0.01, 0.03, 0.1, 0.2, 0.3)
L2 = (0.25, 0.5, 1.0, 2.0, 3.0)


@contextmanager
def timed(label: str) -> Iterator[None]:
    """Print the time that a block takes."""
    start = time.monotonic()
    yield
    print(f"{label:<44} {time.monotonic() - start:8.1f} s")


def large_design(variants: int, attacks: int, seeds: int) -> synthetic.ExperimentDesign:
    """Return the design of an experiment with attacks in two norms, one of them minimum-norm in each."""
    grids = [("linf", LINF), ("l2", L2)]
    designs = [AttackDesign(f"attack_{number:02}", *grids[number % 2]) for number in range(attacks - 2)]
    names = ["lipschitz", *(f"a_variant_with_a_name_{number:02}" for number in range(variants - 1))]
    designs[0] = AttackDesign("transferred", *grids[0], sources=("lipschitz",))
    designs += [AttackDesign("least_linf", "linf", None), AttackDesign("least_l2", "l2", None)]
    return synthetic.plan(names, tuple(range(seeds)), designs, experiment="large")


def add_metadata(path: Path, cell: Cell) -> None:
    """Add the metadata of a real run to a cell's file."""
    ids = {"experiment": cell.experiment, "variant": cell.variant, "seed": cell.seed, "name": cell.name}
    attack = {"name": "pgd", "norm": "linf", "epsilons": LINF, "steps": 40, "restarts": 2, "loss": cell.name}
    modules = {f"gauntlet.module_{number}": "0123456789abcdef" for number in range(60)}
    inputs = {f"results/large/models/variant={cell.variant}/seed={cell.seed}/manifest.json": "sha256:" + "0" * 64}
    run = {"gauntlet.commit": "c0ffee" * 6 + "beef", "gauntlet.dirty": "false", "gauntlet.seconds": "12.345"}
    recipe = Recipe(cell.stage.name, {**ids, "attack": attack}, modules, inputs)
    write_table(path, read_table(path), {**recipe.metadata(), **run, "gauntlet.finished": "2026-01-01T00:00:00Z"})


def write_images(path: Path, indices: np.ndarray) -> None:
    """Write images of noise as large as those of CIFAR-10; they compress as badly as photographs."""
    generator = np.random.default_rng(0)
    images = generator.random((len(indices), 3, 32, 32), np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    perturbed = np.clip(images + generator.normal(0, 0.05, images.shape), 0, 1).astype(np.float32)
    save_file({"original": images, "adversarial": perturbed, "index": indices}, path)


def write_tables(folder: Path, design: synthetic.ExperimentDesign, samples: int) -> None:
    """Write all tables and images that the page reads, at the paths of an experiment."""
    files = synthetic.write_evaluations(folder / "cells", design, samples=samples)
    models = [
        make_cell("train", design.experiment, variant, seed) for variant in design.variants for seed in design.seeds
    ]
    histories = {cell: model_folder(folder / "models", cell) / "history.parquet" for cell in models}
    for cell, path in histories.items():
        write_table(path, synthetic.history(cell), {})
    for cell, path in {**histories, **files}.items():
        add_metadata(path, cell)
    write_table(folder / "origins.parquet", read_origins({**histories, **files}), {}, volatile=ORIGINS_VOLATILE)
    certified = {}
    for cell in models:
        certificate = make_cell("certify", design.experiment, cell.variant, cell.seed, "smooth")
        certified[certificate] = folder / "cells" / cell.variant / f"certificate-{cell.seed}.parquet"
        write_table(certified[certificate], synthetic.smoothed(certificate, samples=samples), {})
    synthetic.combine(certified, folder / "certificates.parquet", design=design)
    for cell, path in files.items():
        if cell.seed == design.seeds[0]:
            fooled = np.flatnonzero(np.asarray(read_table(path)["status"].to_pylist()) == "adversarial")
            examples = model_folder(folder / "evaluations", cell) / f"attack={cell.name}" / "examples.safetensors"
            write_images(examples, fooled[:12].astype(np.int64))
    synthetic.combine(files, folder / "evaluations.parquet", design=design)
    diagnostics = pa.concat_tables([add_verdicts(measurements(cell)) for cell in models])
    write_table(folder / "diagnostics.parquet", diagnostics, {})
    summary = summarize(folder / "evaluations.parquet", flags=collect_flags(diagnostics))
    write_table(folder / "summary.parquet", summary, design.metadata())
    for variant in design.variants:
        model = make_cell("inspect", design.experiment, variant, design.seeds[0])
        ids = {"experiment": design.experiment, "variant": variant, "seed": model.seed}
        table = array_table(synthetic.arrays(variant, filters=32, side=32), **ids)
        write_table(model_folder(folder / "inspections", model) / "inspection.parquet", table, {})
    runs = {key: AttackRun(12.3, "gauntlet", "0.1.0") for key in design.cells()}
    attacks = measure_attacks(folder / "evaluations.parquet", runs)
    write_table(folder / "attacks.parquet", attacks, {}, volatile=ATTACKS_VOLATILE)


def measurements(model: Cell) -> pa.Table:
    """Return synthetic measurements of every check in two norms, of which a tenth fails."""
    generator = np.random.default_rng([model.seed, sum(map(ord, model.variant))])
    rows = [
        Measurement(name, norm, check.fail * 1.01 if generator.random() < 0.1 else 0.0, 50, evidence="synthetic, " * 8)
        for name, check in CHECKS.items()
        for norm in ("linf", "l2")
    ]
    return measurement_table(rows, experiment=model.experiment, variant=model.variant, seed=model.seed)


def model_folder(folder: Path, cell: Cell) -> Path:
    """Return the folder of a model's files."""
    return folder / f"variant={cell.variant}" / f"seed={cell.seed}"


def load(page: Path, times: int = 3) -> None:
    """Load the page and sort its cells, each time in a new browser, and print the times."""
    for _ in range(times):
        with browser.open_browser() as chromium:
            start = time.monotonic()
            chromium.open(page)
            cells = chromium.run_script("return document.querySelectorAll('#cells-table tbody tr').length")
            chromium.run_script("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            seconds = time.monotonic() - start
            start = time.monotonic()
            chromium.run_script(
                "document.querySelectorAll('#cells-table .sort')[5].click(); return document.body.offsetHeight"
            )
            sorting = time.monotonic() - start
            print(
                f"loaded and drawn {seconds:.2f} s, {cells} cells sorted {sorting:.2f} s", *chromium.console_messages()
            )


def main() -> None:
    """Write the tables, draw the figures, write the page, and load it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("variants", 50), ("attacks", 20), ("seeds", 5), ("samples", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--keep", type=Path, help="folder of tables and page; existing tables are used again")
    arguments = parser.parse_args()
    design = large_design(arguments.variants, arguments.attacks, arguments.seeds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        if not (folder / "attacks.parquet").is_file():
            with timed(f"{len(list(design.cells()))} cells written"):
                write_tables(folder, design, arguments.samples)
        inputs = find_inputs(folder / "evaluations.parquet")
        with timed("figures drawn"):
            figures = {
                name: write_figure(name, inputs, folder / "figures", formats=("svg",))[0]
                for name in available_figures(inputs)
            }
        with timed("page written"):
            write_report(folder / "report.html", inputs, figures=figures, mark="gauntlet-cell:sha256:" + "0" * 64)
        figure_bytes = sum(path.stat().st_size for path in figures.values())
        size = (folder / "report.html").stat().st_size
        print(f"page {size / 1e6:.1f} MB, of which figures {4 / 3 * figure_bytes / 1e6:.1f} MB")
        for name, path in figures.items():
            print(f"  {name:<28} {path.stat().st_size / 1e6:.2f} MB")
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
        load(folder / "report.html")


if __name__ == "__main__":
    main()
