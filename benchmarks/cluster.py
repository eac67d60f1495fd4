"""What a SLURM job costs beside its work: many trivial cells with our profile, and with a job each.

    .venv/bin/python benchmarks/cluster.py [--cells 500] [--fewer 24] [--group 8] [--only shared alone single]

Starts the one-node SLURM of tests/support/slurm (as root, see tests/support/install/slurm.sh), or uses the one that
answers. Four tiny models are trained on scikit-learn's digits beforehand, then `snakemake --profile slurm` runs
one-step attacks of 8 samples on them: `shared` with jobs shared as the profile says, `alone` with `preload: false`,
where each cell of a job loads the libraries itself, and `single` with `group_minutes: 0`, the plain executor with a
job for each cell.

Stand-ins before SLURM's commands on PATH count the calls; every Python process notes at its end the CPU seconds of
itself and of the processes that it waited for. A cell's own work is what its rows say that it took, from the first look
at the device to the finished file.
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

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from gauntlet.config import Cell  # noqa: E402
from gauntlet.pipeline import paths  # noqa: E402
from gauntlet.pipeline.status.metadata import recorded_seconds  # noqa: E402
from tests.support.slurm.cluster import Cluster, missing_requirements  # noqa: E402
from tests.support.stub_outputs import write_config  # noqa: E402

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "sinfo", "sacctmgr", "scancel", "srun")

STAND_IN = """#!/bin/sh
start=$(date +%s.%N)
{real} "$@"
code=$?
echo "{name} $start $(date +%s.%N)" >> {log}
exit $code
"""

# Read by every Python process of the run.
NOTES = """
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
    "answers to the plugin's questions": r"gauntlet\.slurm\.sacct",
}
"""What a process is, by the first of these that its command line answers; others are children of these."""

MODES = {
    "shared": {"group_minutes": 5},
    "alone": {"group_minutes": 5, "preload": False},
    "single": {"group_minutes": 0},
}


def main() -> None:
    """Prepare, run each mode, print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=500, help="cells of the first mode")
    parser.add_argument("--fewer", type=int, default=24, help="cells of the other modes, which take longer")
    parser.add_argument("--group", type=int, default=0, help="cells of a job, where not as many as the profile says")
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
    """Provide a SLURM: the one that answers, else one of our own."""
    if shutil.which("sinfo") and subprocess.run(["sinfo"], capture_output=True, check=False).returncode == 0:
        yield
        return
    if missing := missing_requirements():
        sys.exit(
            f"no SLURM answers, and one of our own needs {', '.join(missing)}: tests/support/install/slurm.sh, as root"
        )
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
    """Lay out a clone with trained models, stand-ins and notes."""
    for name in ("workflow", "rules", "profiles", "envs"):
        (folder / name).symlink_to(ROOT / name)
    configure(folder, cells, {})
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for stage in ("prepare", "train"):
        subprocess.run(["gauntlet", "--quiet", stage], check=True)
    (folder / "counted").mkdir()
    for name in COMMANDS:
        if real := shutil.which(name):
            stand_in = folder / "counted" / name
            stand_in.write_text(STAND_IN.format(real=real, name=name, log=folder / "commands"))
            stand_in.chmod(0o755)
    (folder / "notes").mkdir()
    (folder / "notes" / "sitecustomize.py").write_text(NOTES)


def configure(folder: Path, cells: int, asked: dict[str, int]) -> None:
    """Write the experiment: two variants, two seeds, as many attacks as give so many cells."""
    pgd = {"name": "fgsm", "norm": "linf"}
    experiment = {
        "dataset": {"source": "sklearn_digits"},
        "seeds": [0, 1],
        "samples": 8,
        "training": {"epochs": 1, "batch_size": 256},
        "variants": {f"v{number}": {"model": {"name": "cnn", "widths": [4 + number]}} for number in range(2)},
        "attacks": {f"a{number}": {**pgd, "epsilons": [0.001 * (number + 1)]} for number in range(-(-cells // 4))},
    }
    execution = {"device": "cpu", "cluster": {"minutes": 1, "memory_mb": 1500, **asked}}
    write_config(folder, {"experiments": {"many": experiment}, "execution": execution})


def measure(folder: Path, mode: str, count: int, group: int) -> None:
    """Run one mode from nothing and print where its time went."""
    configure(folder, count, MODES[mode])
    shutil.rmtree("results/many/evaluations", ignore_errors=True)
    for log in ("commands", "processes"):
        Path(log).unlink(missing_ok=True)
    models = [(f"v{variant}", seed) for variant in (0, 1) for seed in (0, 1)]
    cells = [Cell("evaluate", "many", *model, f"a{attack}") for attack in range(-(-count // 4)) for model in models]
    wanted = [paths.samples(cell) for cell in cells[:count]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(folder / "counted"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder / "notes"), str(ROOT / "src")]),
        "BENCH_PROCESSES": str(folder / "processes"),
        "OMP_NUM_THREADS": "1",
    }
    # Written bytecode as in any other run, whatever this shell is told.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm"]
    command += ["--group-components", f"cells={group}"] if group else []
    start_s = time.time()
    with Path("controller.log").open("w") as log:
        done = subprocess.run([*command, *map(str, wanted)], env=environment, stdout=log, stderr=log, check=False)
    wall_s = time.time() - start_s
    if done.returncode:
        sys.exit(Path("controller.log").read_text()[-3000:])
    work_s = sum(recorded_seconds(cell) or 0.0 for cell in cells[:count])
    show(mode, count, wall_s, work_s)


def show(mode: str, count: int, wall_s: float, work_s: float) -> None:
    """Print the calls of SLURM's commands, and the CPU seconds of each kind of process, per cell."""
    commands = [line.split() for line in Path("commands").read_text().splitlines()]
    calls = Counter(name for name, *_ in commands)
    sbatch_s = [float(end) - float(start) for name, start, end in commands if name == "sbatch"]
    print(f"\n{mode}: {count} cells in {calls['sbatch']} jobs, {wall_s:.0f} s, load {os.getloadavg()[0]:.1f}")
    told = ", ".join(f"{name} {calls[name]}" for name in COMMANDS if calls[name])
    print(f"  calls: {told}; sbatch {1000 * sum(sbatch_s) / len(sbatch_s):.0f} ms each")
    found: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for line in Path("processes").read_text().splitlines():
        *numbers, command = line.split("\t")
        kind = next((name for name, pattern in KINDS.items() if re.search(pattern, command)), None)
        if kind:
            found[kind].append([float(number) for number in numbers])
    total_s, cells_s = 0.0, 0.0
    print(f"  {'':34s} processes  wall s each  CPU s each  CPU s per cell")
    for kind, rows in ((kind, rows) for kind, rows in found.items() if rows):
        wall, own, children = (sum(column) for column in zip(*rows, strict=True))
        row = f"{len(rows):9d} {wall / len(rows):12.2f} {own / len(rows):11.2f} {own / count:15.2f}"
        print(f"  {kind:34s} {row}")
        total_s += own
        cells_s += children if "job" in kind else 0.0
    print(f"  {'gauntlet evaluate':34s} {count:9d} {'':12s} {cells_s / count:11.2f} {cells_s / count:15.2f}")
    print(f"  all {(total_s + cells_s) / count:.2f} CPU s per cell; its own work is {work_s / count:.2f} s, wall")


if __name__ == "__main__":
    main()
