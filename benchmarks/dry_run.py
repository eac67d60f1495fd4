"""Time of a dry run over 10 000 finished cells, compared with Snakemake alone on the same graph with plain rules.

    .venv/bin/python benchmarks/dry_run.py [--cells 10000] [--repeats 5] [--variants 10] [--grid]

The finished run is synthetic: files with the hashes of their recipes. Both sides have the same number of cells and
outputs, and rules with the same directives (log, benchmark, resources, params); the plain side has constant inputs and
no check of staleness. Neither has Snakemake's records. Runs alternate; medians are compared. With `--grid` the variants
are those of an ablation grid of two axes.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.stub_outputs import finish_cells, write_config  # noqa: E402

PLAIN = """
MODELS = [(v, s) for v in range({variants}) for s in range({seeds})]
CELLS = [(v, s, a) for v, s in MODELS for a in range({attacks})]
M = "plain/models/variant={{v}}/seed={{s}}/"
E = "plain/evaluations/variant={{v}}/seed={{s}}/attack={{a}}/"

rule all:
    input:
        "plain/data/manifest.json",
        [(M + f).format(v=v, s=s) for v, s in MODELS for f in ("model", "manifest", "history")],
        [(E + f).format(v=v, s=s, a=a) for v, s, a in CELLS for f in ("samples", "examples")],
        "plain/summary",
rule data:
    output: "plain/data/manifest.json"
    shell: "touch {{output}}"
rule train:
    input: "plain/data/manifest.json"
    output: M + "model", M + "manifest", M + "history"
    log: "plain/logs/train.{{v}}.{{s}}.log"
    benchmark: "plain/logs/train.{{v}}.{{s}}.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        configs=["config.yaml"],
    shell: "touch {{output}}"
rule evaluate:
    input: "plain/data/manifest.json", M + "manifest", M + "model"
    output: E + "samples", E + "examples"
    log: "plain/logs/evaluate.{{v}}.{{s}}.{{a}}.log"
    benchmark: "plain/logs/evaluate.{{v}}.{{s}}.{{a}}.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        configs=["config.yaml"],
    shell: "touch {{output}}"
rule aggregate:
    input:
        [(M + "model").format(v=v, s=s) for v, s in MODELS],
        [(E + "samples").format(v=v, s=s, a=a) for v, s, a in CELLS],
    output: "plain/summary"
    shell: "touch {{output}}"
"""


def main() -> None:
    """Build both graphs, time them alternately, print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--variants", type=int, default=10)
    parser.add_argument("--grid", action="store_true")
    options = parser.parse_args()
    variants, seeds = options.variants, 10
    attacks = max(1, options.cells // (variants * seeds) - 1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        _ours(folder, variants, seeds, attacks, is_grid=options.grid)
        _plain(folder, variants, seeds, attacks)
        sides = {"gauntlet": ["--profile", "local"], "plain": ["-s", "plain.smk", "--cores", "2"]}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.repeats):
            for name, arguments in sides.items():
                seconds[name].append(_dry_run(folder, arguments))
    counts = f"{variants * seeds * (attacks + 1)} cells of {variants} variants{' of a grid' if options.grid else ''}"
    print(f"{counts}, nothing stale, median of {options.repeats} dry runs")
    for number, kind in enumerate(("wall", "CPU")):
        medians = {name: statistics.median(times[number] for times in pairs) for name, pairs in seconds.items()}
        for name, median in medians.items():
            print(f"  {name:9} {kind:4} {median:6.2f} s   {[round(times[number], 2) for times in seconds[name]]}")
        print(f"  ratio     {kind:4} {medians['gauntlet'] / medians['plain']:6.2f}")
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  peak memory of either {peak_mib:.0f} MiB")


def _ours(folder: Path, variants: int, seeds: int, attacks: int, *, is_grid: bool) -> None:
    pgd = {"name": "pgd", "norm": "linf"}
    written = {f"v{number}": {"model": {"name": "cnn", "widths": [8 + number]}} for number in range(variants)}
    if is_grid:
        model = {"name": "cnn", "widths": ["{first}", "{second}"]}
        axes = {"first": list(range(8, 8 + variants // 2)), "second": [16, 32]}
        written = {"w{first}_{second}": {"axes": axes, "model": model}}
    experiment = {
        "dataset": {"source": "sklearn_digits"},
        "seeds": list(range(seeds)),
        "variants": written,
        "attacks": {f"a{number}": {**pgd, "epsilons": [0.01 * (number + 1)]} for number in range(attacks)},
    }
    write_config(folder, {"experiments": {"many": experiment}})
    for name in ("workflow", "rules", "profiles", "envs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "local").symlink_to("profiles/local")
    finish_cells(folder)


def _plain(folder: Path, variants: int, seeds: int, attacks: int) -> None:
    (folder / "plain.smk").write_text(PLAIN.format(variants=variants, seeds=seeds, attacks=attacks))
    paths = [Path("plain/data/manifest.json")]
    models = [(v, s) for v in range(variants) for s in range(seeds)]
    paths += [
        Path(f"plain/models/variant={v}/seed={s}/{f}") for v, s in models for f in ("model", "manifest", "history")
    ]
    cells = [(v, s, a) for v, s in models for a in range(attacks)]
    for v, s, a in cells:
        paths += [Path(f"plain/evaluations/variant={v}/seed={s}/attack={a}/{f}") for f in ("samples", "examples")]
    start = time.time() - 3600
    for number, path in enumerate([*paths, Path("plain/summary")]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (start + number / 100, start + number / 100))


def _dry_run(folder: Path, arguments: list[str]) -> tuple[float, float]:
    """Return wall and CPU seconds of a dry run; on a shared machine CPU seconds vary less."""
    start_s, used_s = time.monotonic(), _cpu_s()
    output = _snakemake(folder, ["-n", *arguments])
    elapsed = time.monotonic() - start_s, _cpu_s() - used_s
    if not re.search("Nothing to be done", output):
        raise SystemExit(f"something is stale:\n{output[-3000:]}")
    return elapsed


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _snakemake(folder: Path, arguments: list[str]) -> str:
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
