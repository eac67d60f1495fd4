"""Time of randomized smoothing and of the judge's passes, compared with an older checkout of Gauntlet.

    .venv/bin/python benchmarks/smoothing.py --old FOLDER [--images 8] [--n 1000] [--repeats 5] [--only CASE ...]
    .venv/bin/python benchmarks/smoothing.py --precisions [--repeats 5] [--only CASE ...]

FOLDER is a checkout, for example made by `git worktree add FOLDER aa5837e`. Both sides certify the same images of noise
with the same untrained networks (equal weights, from a seed), alternately, one process per run, and print medians of
CPU seconds, their ratio, and whether all radii, predictions and confidences are equal. `judge` times the judge's passes
over the same number of images. `--precisions` compares an attack's passes in float32 and in bfloat16. Time is that of
one thread, without imports and the construction of the network.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CASES: dict[str, tuple[str, tuple[int, int, int]]] = {
    "cnn_mnist": ("cnn", (1, 28, 28)),
    "cnn_cifar10": ("cnn", (3, 32, 32)),
    "lenet_cifar10": ("lenet", (3, 32, 32)),
    "plain_mnist": ("plain", (1, 28, 28)),
    "plain_cifar10": ("plain", (3, 32, 32)),
    "cnn_digits": ("cnn", (1, 8, 8)),
    "mnist_cnn": ("mnist_cnn", (1, 28, 28)),
    "lenet_mnist": ("lenet", (1, 28, 28)),
    "vgg_mnist": ("vgg", (1, 28, 28)),
    "lipschitz_mnist": ("lipschitz_cnn", (1, 28, 28)),
}
"""Name of a network of the registry, or `plain`, an nn.Sequential; and the shape of its images."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="checkout of the older code")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--n", type=int, default=1000, help="noisy copies per image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--precisions", action="store_true", help="compare an attack's passes in two precisions")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.images, arguments.n)))
        return
    if arguments.precisions:
        for case in arguments.only:
            compare_precisions(case, arguments.repeats)
        return
    if arguments.old is None:
        parser.error("--old is missing: the checkout of the older code")
    new = Path(__file__).resolve().parents[1]
    for case in arguments.only:
        runs: dict[str, list[dict[str, Any]]] = {"old": [], "new": []}
        for _ in range(arguments.repeats):
            for side, checkout in (("old", arguments.old), ("new", new)):
                runs[side].append(in_checkout(checkout, case, arguments))
        same = all(run["rows"] == runs["old"][0]["rows"] for side in runs.values() for run in side)
        print(f"{case}: {arguments.images} images, n = {arguments.n}, rows {'equal' if same else 'DIFFERENT'}")
        for work in ("smoothing", "judge"):
            old, now = (statistics.median(run[work] for run in runs[side]) for side in ("old", "new"))
            print(f"  {work:10s} old {old:.3f} s, new {now:.3f} s, ratio {old / now:.2f}", flush=True)


def in_checkout(checkout: Path, case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one case in a process that imports Gauntlet from a checkout."""
    command = [sys.executable, __file__, "--one", case, "--images", str(arguments.images), "--n", str(arguments.n)]
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def names() -> SimpleNamespace:
    """Import the names that are measured, from where this version of Gauntlet has them."""

    def first(name: str, *modules: str) -> Any:
        for module in modules:
            try:
                return getattr(importlib.import_module(f"gauntlet.{module}"), name)
            except ImportError:
                continue
        raise ImportError(name)

    return SimpleNamespace(
        build=first("build", "learning.models.build", "models.build"),
        spec=first("Spec", "registry"),
        certify=first("certify", "robustness.certificates.certifier", "certificates.engine"),
        judge=first("Judge", "robustness.judge", "certificates.engine"),
        identity=first("CellIdentity", "robustness.judge", "certificates.engine"),
    )


def network_of(case: str) -> Any:
    """Build the untrained network of a case, in evaluation mode."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    name, (channels, height, width) = CASES[case]
    if name == "plain":
        return nn.Sequential(
            *(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * (height // 4) * (width // 4), 10)),
        ).eval()
    gauntlet, statistic = names(), (0.3,) * channels
    shape = (channels, height, width)
    return gauntlet.build(gauntlet.spec(name), image_shape=shape, num_classes=10, mean=statistic, std=statistic).eval()


def measure(case: str, count: int, n: int) -> dict[str, Any]:
    """Return CPU seconds of smoothing and of the judge on `count` images, and the rows of the certificate."""
    import torch

    gauntlet, network, shape = names(), network_of(case), CASES[case][1]
    images, labels = torch.rand(count, *shape), torch.zeros(count, dtype=torch.int64)
    certificate = gauntlet.spec("smoothing", {"n": n, "sigma": 0.25})
    settings = {"name": "smoothing", "norm": "l2", "identity": gauntlet.identity("e", "v", 0)}
    gauntlet.certify(network, images[:1], labels[:1], certificate, **settings)
    start = time.process_time()
    table = gauntlet.certify(network, images, labels, certificate, **settings)
    smoothing = time.process_time() - start
    judged = torch.rand(1024, *shape)
    judge = gauntlet.judge(network, device=torch.device("cpu"))
    judge.logits(judged[:256])
    start = time.process_time()
    for _ in range(max(1, count * n // 1024)):
        judge.logits(judged)
    rows = table.select(["clean_prediction", "radius", "clean_confidence"]).to_pydict()
    return {"smoothing": smoothing, "judge": time.process_time() - start, "rows": rows}


def compare_precisions(case: str, repeats: int) -> None:
    """Print the time of a forward and a backward of 128 images in float32 and in bfloat16, in turn."""
    import torch

    from gauntlet.robustness.attacks.base.losses import UNTARGETED_LOSSES
    from gauntlet.robustness.attacks.base.model import AttackModel

    network, x = network_of(case), torch.rand(128, *CASES[case][1])
    y = torch.zeros(len(x), dtype=torch.int64)
    models = {name: AttackModel(network, precision=name) for name in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats + 1):
        for name, model in models.items():
            model.start_counting(len(x))
            start = time.process_time()
            for _ in range(8):
                model.gradients(x, y, UNTARGETED_LOSSES["margin"])
            seconds[name].append((time.process_time() - start) / 8)
    exact, rough = (1000 * statistics.median(values[1:]) for values in seconds.values())
    print(f"{case}: float32 {exact:.1f} ms, bfloat16 {rough:.1f} ms, ratio {exact / rough:.2f}", flush=True)


if __name__ == "__main__":
    main()
