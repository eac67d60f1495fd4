"""Overhead of SLURM jobs: many trivial cells with our profile, and with one job per cell.

    .venv/bin/python benchmarks/cluster.py [--cells 500] [--fewer 24] [--group 8] [--only shared alone single]

Starts the one-node SLURM of tests/support/slurm (as root, see tests/support/install/slurm.sh), or uses a running one.
Four tiny models are trained on scikit-learn's digits, then `snakemake --profile slurm` runs one-step attacks on 8
samples: `shared` with group jobs as the profile sets them, `alone` with `preload: false`, where each cell of a job
loads the libraries itself, and `single` with `group_minutes: 0`, one job per cell.

Wrappers of SLURM's commands, first on PATH, count the calls; every Python process records at exit the CPU seconds of
itself and of the processes that it waited for. A cell's own work is the duration recorded in its file.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gauntlet.pipeline.stage import Cell
from gauntlet.pipeline.stages import catalog

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from gauntlet.pipeline import paths  # noqa: E402
from gauntlet.pipeline.status.metadata import recorded_seconds  # noqa: E402
from tests.support.slurm.cluster import Cluster, missing_requirements  # noqa: E402
from tests.support.stub_outputs import write_config  # noqa: E402

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "scancel", "srun")

WRAPPER = """#!/bin/sh
start=$(date +%s.%N)
{command} "$@"
code=$?
echo "{name} $start $(date +%s.%N)" >> {log}
exit $code
"""

# Imported by every Python process of the run.
SITECUSTOMIZE = """
import atexit, os, resource, sys, time
if "BENCH_PROCESSES" in os.environ:
    began, process = time.time(), os.getpid()
    def note():
        if os.getpid() == process:
            uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            numbers = [time.time() - began, *(use.ru_utime + use.ru_stime for use in uses)]
            line = [*(f"{number:.3f}" for number in numbers), " ".join(sys.orig_argv).replace("\\n", " ")]
            with open(os.environ["BENCH_PROCESSES"], "a") as file:
                print(*line, sep="\\t", file=file)
    atexit.register(note)
"""

KINDS = {
    "controller": r"snakemake --profile",
    "Snakemake in the job": r"snakemake .*--executor slurm-jobstep",
    "Snakemake in a step of the job": r"snakemake .*--mode",
    "sacct for the plugin": r"gauntlet\.pipeline\.cluster\.sacct",
}
"""Kinds of processes, by the first pattern that matches the command line; all others are children of these."""

MODES = {
    "shared": {"group_minutes": 5},
    "alone": {"group_minutes": 5},
    "single": {"group_minutes": 0},
}


def main() -> None:
    """Prepare, run each mode, print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500, help="cells of the first mode")
    parser.add_argument("--fewer", type=int, default=24, help="cells of the other modes, which take longer")
    parser.add_argument("--group", type=int, default=0, help="cells per job, if not as in the profile")
    parser.add_argument("--only", nargs="*", choices=list(MODES), default=list(MODES))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with slurm(folder):
            os.chdir(folder)
            prepare(folder, options.cells)
            for mode in options.only:
                measure(folder, mode, options.cells if mode == "shared" else options.fewer, options.group)
    finally:
        shutil.rmtree(folder)


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Provide a running SLURM, or start the test cluster."""
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
        yield
        return
    if missing := missing_requirements():
        problem = f"no SLURM is running, and the test cluster lacks {', '.join(missing)}"
        sys.exit(f"{problem}: run tests/support/install/slurm.sh as root")
    (folder / "slurm").mkdir()
    cluster = Cluster(folder / "slurm")
    os.environ.update({name: cluster.environment[name] for name in ("PATH", "SLURM_CONF")})
    cluster.start()
    try:
        yield
    finally:
        cluster.stop()
        shutil.rmtree(folder / "slurm")


def prepare(folder: Path, cells: int) -> None:
    """Create a working folder with trained models, command wrappers and process recording."""
    for name in ("workflow", "rules", "profiles", "envs"):
        (folder / name).symlink_to(ROOT / name)
    configure(folder, cells, {})
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for stage in ("prepare", "train"):
        subprocess.run(["gauntlet", "--quiet", stage], check=True)
    (folder / "wrappers").mkdir()
    for name in COMMANDS:
        if command := shutil.which(name):
            wrapper = folder / "wrappers" / name
            wrapper.write_text(WRAPPER.format(command=command, name=name, log=folder / "commands"))
            wrapper.chmod(0o755)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)


def configure(folder: Path, cells: int, cluster: dict[str, int], *, preload: bool = True) -> None:
    """Write the experiment: two variants, two seeds, and the attacks that make at least `cells` cells."""
    fgsm = {"name": "fgsm", "norm": "linf"}
    experiment = {
        "dataset": {"source": "sklearn_digits"},
        "seeds": [0, 1],
        "samples": 8,
        "training": {"epochs": 1, "batch_size": 256},
        "variants": {f"v{number}": {"model": {"name": "cnn", "widths": [4 + number]}} for number in range(2)},
        "attacks": {f"a{number}": {**fgsm, "epsilons": [0.001 * (number + 1)]} for number in range(-(-cells // 4))},
    }
    execution = {"device": "cpu", "preload": preload, "cluster": {"minutes": 1, "memory_mb": 1500, **cluster}}
    write_config(folder, {"experiments": {"many": experiment}, "execution": execution})


def measure(folder: Path, mode: str, count: int, group: int) -> None:
    """Run one mode without earlier evaluations and print its costs."""
    configure(folder, count, MODES[mode], preload=mode != "alone")
    shutil.rmtree("results/many/evaluations", ignore_errors=True)
    for log in ("commands", "processes"):
        Path(log).unlink(missing_ok=True)
    models = [(f"v{variant}", seed) for variant in (0, 1) for seed in (0, 1)]
    cells = [
        Cell(catalog.stage("evaluate"), "many", *model, f"a{attack}")
        for attack in range(-(-count // 4))
        for model in models
    ]
    targets = [paths.samples(cell) for cell in cells[:count]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(folder / "wrappers"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT / "src")]),
        "BENCH_PROCESSES": str(folder / "processes"),
        "OMP_NUM_THREADS": "1",
    }
    # Write bytecode as in any other run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm"]
    command += ["--group-components", f"cells={group}"] if group else []
    start_s = time.time()
    with Path("controller.log").open("w") as log:
        result = subprocess.run([*command, *map(str, targets)], env=environment, stdout=log, stderr=log, check=False)
    wall_s = time.time() - start_s
    if result.returncode:
        sys.exit(Path("controller.log").read_text()[-3000:])
    work_s = sum(recorded_seconds(cell) or 0.0 for cell in cells[:count])
    show(mode, count, wall_s, work_s)


def show(mode: str, count: int, wall_s: float, work_s: float) -> None:
    """Print the calls of SLURM's commands, and the CPU seconds of each kind of process, per cell."""
    commands = [line.split() for line in Path("commands").read_text().splitlines()]
    calls = Counter(name for name, *_ in commands)
    sbatch_s = [float(end) - float(start) for name, start, end in commands if name == "sbatch"]
    print(f"\n{mode}: {count} cells in {calls['sbatch']} jobs, {wall_s:.0f} s, load {os.getloadavg()[0]:.1f}")
    call_counts = ", ".join(f"{name} {calls[name]}" for name in COMMANDS if calls[name])
    print(f"  calls: {call_counts}; sbatch {1000 * sum(sbatch_s) / len(sbatch_s):.0f} ms each")
    usage: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for line in Path("processes").read_text().splitlines():
        *numbers, command = line.split("\t")
        kind = next((name for name, pattern in KINDS.items() if re.search(pattern, command)), None)
        if kind:
            usage[kind].append([float(number) for number in numbers])
    total_s, cells_s = 0.0, 0.0
    print(f"  {'':34s} processes  wall s each  CPU s each  CPU s per cell")
    for kind, rows in ((kind, rows) for kind, rows in usage.items() if rows):
        wall_sum_s, cpu_s, children_s = (sum(column) for column in zip(*rows, strict=True))
        row = f"{len(rows):9d} {wall_sum_s / len(rows):12.2f} {cpu_s / len(rows):11.2f} {cpu_s / count:15.2f}"
        print(f"  {kind:34s} {row}")
        total_s += cpu_s
        cells_s += children_s if "job" in kind else 0.0
    print(f"  {'gauntlet evaluate':34s} {count:9d} {'':12s} {cells_s / count:11.2f} {cells_s / count:15.2f}")
    print(f"  all {(total_s + cells_s) / count:.2f} CPU s per cell; its own work is {work_s / count:.2f} s, wall")


if __name__ == "__main__":
    main()
