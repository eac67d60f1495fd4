"""CPU seconds of a local run, with the libraries loaded once and with every cell loading them itself.

    .venv/bin/python benchmarks/local.py [--full] [--pairs 1] [--only served alone]

Runs the default experiment, or one variant of it with few attacks and epochs, in a temporary folder; the sides differ
in `execution: preload:` and alternate. Every command of a cell is recorded with its CPU seconds and those of the
processes that it waited for; the forks of a server record their own. Afterwards `gauntlet status`, a second run, and
the figures alone are timed on the finished run. Medians over the pairs are printed, with the files whose bytes differ
between sides.
"""

from __future__ import annotations

import argparse
import copy
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from ruamel.yaml import YAML  # noqa: E402

from tests.support.output_digests import digests  # noqa: E402
from tests.support.stub_outputs import write_config  # noqa: E402
from tests.support.workflow import link_workflow  # noqa: E402

SIDES = {"served": True, "alone": False}
"""Each side and its `execution: preload:`."""

# Imported by every Python process of the run. A fork ends without the handlers that run at exit.
SITECUSTOMIZE = """
import os, resource, sys
if "BENCH_PROCESSES" in os.environ:
    import atexit
    def note(command=None):
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        words = [os.path.basename(word) for word in (command or sys.orig_argv[1:])]
        with open(os.environ["BENCH_PROCESSES"], "a") as file:
            print(*(use.ru_utime + use.ru_stime for use in uses), *words, file=file)
    leave = os._exit
    def noting_exit(code):
        if "gauntlet" in sys.argv[0]:
            is_fork = "gauntlet.pipeline.forking.server" in sys.orig_argv
            note(["fork" if is_fork else "client", *sys.argv[1:]])
        leave(code)
    os._exit = noting_exit
    atexit.register(note)
"""


def main() -> None:
    """Run both sides alternately and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the default experiment as it is")
    parser.add_argument("--pairs", type=int, default=1, help="runs of each side")
    parser.add_argument("--only", nargs="*", choices=list(SIDES), default=list(SIDES))
    options = parser.parse_args()
    seconds: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in options.only}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        (Path(scratch) / "sitecustomize.py").write_text(SITECUSTOMIZE)
        outputs: dict[str, Any] = {}
        for number in range(options.pairs):
            for side in options.only:
                folder = Path(scratch) / f"{side}{number}"
                for row, value in measure(folder, configuration(full=options.full, preload=SIDES[side])).items():
                    seconds[side][row].append(value)
                outputs[side] = digests(folder)
                shutil.rmtree(folder)
    show(seconds)
    if len(outputs) == len(SIDES):
        different = [name for name in outputs["served"] if outputs["served"][name] != outputs["alone"].get(name)]
        listed = ", ".join(map(str, different)) or "none"
        print(f"files that differ between the sides: {listed} of {len(outputs['served'])}")


def configuration(*, full: bool, preload: bool) -> dict[str, Any]:
    """Return the default experiment, or a short form of it."""
    config = copy.deepcopy(YAML(typ="safe").load(ROOT / "config.yaml"))
    config["execution"] = {"preload": preload}
    if not full:
        experiment = config["experiments"]["digits"]
        experiment |= {"seeds": [0], "samples": 60}
        experiment["training"]["epochs"] = 2
        experiment["variants"] = {"softmax": experiment["variants"]["softmax"]}
        experiment["attacks"] = {name: experiment["attacks"][name] for name in ("fgsm", "pgd", "ddn")}
        del experiment["certificates"]
    return config


def measure(folder: Path, config: dict[str, Any]) -> dict[str, float]:
    """Run an experiment and what follows it; return CPU seconds by stage, and CPU and wall seconds of commands."""
    folder.mkdir()
    write_config(folder, config)
    link_workflow(folder)
    snakemake = [sys.executable, "-m", "snakemake", "--profile", "local"]
    result = timed(folder, "run", snakemake)
    cells: dict[str, list[float]] = defaultdict(list)
    forks: dict[str, float] = defaultdict(float)
    for line in (folder / "processes").read_text().splitlines():
        own_s, children_s, *words = line.split()
        kind, *arguments = words
        command = next((word for word in arguments if not word.startswith("-")), "")
        if kind == "fork":
            forks[command] += float(own_s) + float(children_s)
        elif kind in ("client", "gauntlet"):
            cells[command].append(float(own_s) + float(children_s))
    for command, values in cells.items():
        result[f"{command}, {len(values)} cells, CPU s each"] = (sum(values) + forks[command]) / len(values)
    result |= timed(folder, "gauntlet status", [sys.executable, "-m", "gauntlet", "status"])
    result |= timed(folder, "second run", snakemake)
    shutil.rmtree(folder / "results" / "digits" / "figures")
    return result | timed(folder, "figures", [*snakemake, "figures"])


def timed(folder: Path, name: str, command: list[str]) -> dict[str, float]:
    """Return the CPU and wall seconds of a command with all processes that it starts."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder.parent), str(ROOT / "src")]),
        "BENCH_PROCESSES": str(folder / "processes"),
    }
    # Write bytecode as in any other run.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    (folder / "processes").unlink(missing_ok=True)
    start_s, used_s = time.monotonic(), _cpu_s()
    with (folder / "log").open("w") as log:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        sys.exit((folder / "log").read_text()[-3000:])
    return {f"{name}, CPU s": _cpu_s() - used_s, f"{name}, wall s": time.monotonic() - start_s}


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(seconds: dict[str, dict[str, list[float]]]) -> None:
    """Print a row per measurement and a column per side."""
    print(f"{'':44s}" + "".join(f"{side:>10s}" for side in seconds) + f"   load {os.getloadavg()[0]:.1f}")
    for row in next(iter(seconds.values())):
        medians = [statistics.median(rows[row]) for rows in seconds.values() if rows[row]]
        print(f"{row:44s}" + "".join(f"{median:10.2f}" for median in medians))


if __name__ == "__main__":
    main()
