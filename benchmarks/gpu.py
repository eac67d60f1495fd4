"""Measurements on a GPU, compared with plain loops and auto-attack's own code, and the page with their results.

    .venv/bin/python benchmarks/gpu.py [--only CASE ...] [--repeats 5] [--minutes 8]    # measures, then writes the page
    .venv/bin/python benchmarks/gpu.py --device cpu --tiny                              # every measurement, very small

No data is needed: images are random, or the digits of scikit-learn; networks have random weights and attack the
classes that they predict. Budgets are chosen such that a fifth or four fifths of the images survive plain PGD. Both
sides alternate after a warm-up; times are medians of wall time, with the GPU synchronized before and after. The plain
loops are those of a tutorial with torch's default settings: convolutions in TF32, kernels of any kind, every image in
every step, images resident on the GPU. Gauntlet has its own defaults: deterministic kernels, every success confirmed
in IEEE float32. Measurements that do not fit into `--minutes` are left out and named. Results are kept in
`benchmarks/gpu_results.json`, from which `gpu_page.py` writes `docs/gpu.md`.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from gpu_page import RESULTS, ROOT, Row, write_page
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet18

import gauntlet
from gauntlet.config.variants import Training
from gauntlet.core.determinism import set_determinism
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import Split
from gauntlet.learning.models.build import ImportedNetwork, build
from gauntlet.learning.models.layers.normalization import Normalization
from gauntlet.learning.models.network import Head
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec
from gauntlet.robustness.judge import Judge

BATCH, TRAINING_BATCH, TRAINING_STEPS = 250, 128, 7


@dataclass(frozen=True)
class Size:
    """The amount of work of each measurement."""

    side: int = 32
    images: int = 1000
    steps: int = 40
    auto_images: int = 128
    auto_steps: int = 100
    queries: int = 5000
    training_images: int = 2560
    judged: int = 4096
    trainings: int = 8
    epochs: int = 10


TINY = Size(
    8, images=8, steps=2, auto_images=4, auto_steps=2, queries=10, training_images=16, judged=8, trainings=2, epochs=1
)


@dataclass(frozen=True)
class Bench:
    """Device and amount of work."""

    device: torch.device
    size: Size
    repeats: int

    def network(self) -> nn.Module:
        """Build a ResNet-18 for small images (no stride and no pooling in the stem), with random weights."""
        torch.manual_seed(0)
        network = resnet18(num_classes=10)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return network.to(self.device).eval()

    def images(self, count: int) -> Tensor:
        """Draw smooth random images `(count, 3, H, W)` in [0, 1]."""
        coarse = torch.rand((count, 3, 4, 4), generator=torch.Generator().manual_seed(1))
        size = (self.size.side, self.size.side)
        return functional.interpolate(coarse, size, mode="bilinear").to(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """Measure the wall time of a run, until the device has finished."""
        self.synchronize()
        began_s = time.perf_counter()
        run()
        self.synchronize()
        return time.perf_counter() - began_s

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def compare(self, ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
        """Run both sides alternately, after a warm-up of each; return the medians of their seconds."""

        def our_side() -> None:
            with torch_settings(deterministic=True):
                ours()

        times: dict[Callable[[], object], list[float]] = {our_side: [], peer: []}
        for repeat in range(self.repeats + 1):
            for side, seconds in times.items():
                measured = self.seconds(side)
                if repeat:
                    seconds.append(measured)
        ours_s, peer_s = (statistics.median(seconds) for seconds in times.values())
        return ours_s, peer_s


@contextmanager
def torch_settings(*, deterministic: bool) -> Iterator[None]:
    """Use the kernels of the pipeline inside, and torch's defaults after."""
    set_determinism(deterministic)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False


def plain_pgd(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, steps: int, step_size: float) -> Tensor:
    """Run PGD from a random start as tutorials write it: all images take all steps."""
    x_adv = (x + torch.empty_like(x).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        loss = functional.cross_entropy(network(x_adv), y)
        (gradient,) = torch.autograd.grad(loss, x_adv)
        x_adv = x + (x_adv.detach() + step_size * gradient.sign() - x).clamp(-epsilon, epsilon)
        x_adv = x_adv.clamp(0, 1)
    return x_adv.detach()


def plain_attack(network: nn.Module, x: Tensor, y: Tensor, epsilon: float, steps: int) -> float:
    """Attack in batches of 250; return the share of images that survive."""
    robust = 0
    for part in torch.arange(len(x)).split(BATCH):
        batch, labels = x[part[0] : part[-1] + 1], y[part[0] : part[-1] + 1]
        x_adv = plain_pgd(network, batch, labels, epsilon, steps, 2.5 * epsilon / steps)
        with torch.no_grad():
            robust += int((network(x_adv).argmax(1) == labels).sum())
    return robust / len(x)


def predictions(network: nn.Module, x: Tensor) -> Tensor:
    """Return the classes that the network predicts."""
    with torch.no_grad():
        return torch.cat([network(part).argmax(1) for part in x.split(BATCH)])


def budget(network: nn.Module, x: Tensor, y: Tensor, share: float) -> float:
    """Find the budget at which about this share of the images survives ten steps of plain PGD."""
    low, high = 0.0, 0.25
    for _ in range(10):
        middle = (low + high) / 2
        survives = plain_attack(network, x, y, middle, 10)
        low, high = (middle, high) if survives > share else (low, middle)
    return high


def pgd(bench: Bench, survive: float) -> Row:
    """PGD against the plain loop."""
    network, x, steps = bench.network(), bench.images(bench.size.images), bench.size.steps
    y = predictions(network, x)
    epsilon = budget(network, x, y, survive)
    attack = {"name": "pgd", "norm": "linf", "steps": steps, "epsilons": [epsilon]}
    robust: dict[str, float] = {}

    def ours() -> None:
        rows = gauntlet.evaluate(network, x, y, attack, device=bench.device)
        robust["ours"] = gauntlet.robust_accuracy(rows, epsilon)

    def peer() -> None:
        robust["peer"] = plain_attack(network, x, y, epsilon, steps)

    ours_s, peer_s = bench.compare(ours, peer)
    remark = f"ε = {epsilon:.4f}; robust: {100 * robust['ours']:.1f} % against {100 * robust['peer']:.1f} %"
    work = f"PGD-{steps} on a ResNet-18, {len(x)} images, {'most survive' if survive > 0.5 else 'most fall'}"
    return Row(work, "plain loop", ours_s, peer_s, 2.0, remark)


def autoattack(bench: Bench) -> Row:
    """AutoAttack against its authors' code."""
    from pyautoattack import AutoAttack

    size = bench.size
    network, x = bench.network(), bench.images(size.auto_images)
    y = predictions(network, x)
    epsilon = budget(network, x, y, 0.5)
    options = {"steps": size.auto_steps, "queries": size.queries}
    attack = {"name": "autoattack", "norm": "linf", "epsilons": [epsilon], **options}
    robust: dict[str, float] = {}

    def ours() -> None:
        rows = gauntlet.evaluate(network, x, y, attack, device=bench.device)
        robust["ours"] = gauntlet.robust_accuracy(rows, epsilon)

    def peer() -> None:
        their = AutoAttack(network, device=bench.device, eps=epsilon, norm="Linf", seed=0, version="standard")
        their.apgd.n_iter = their.apgd_targeted.n_iter = their.fab.n_iter = size.auto_steps
        their.square.n_queries = size.queries
        x_adv = their.run_standard_evaluation(x, y, batch_size=BATCH)
        x_adv = x_adv[0] if isinstance(x_adv, tuple) else x_adv
        robust["peer"] = float((predictions(network, x_adv) == y).double().mean())

    ours_s, peer_s = replace(bench, repeats=min(bench.repeats, 3)).compare(ours, peer)
    remark = f"ε = {epsilon:.4f}; robust: {100 * robust['ours']:.1f} % against {100 * robust['peer']:.1f} %"
    return Row(f"AutoAttack on a ResNet-18, {len(x)} images", "pyautoattack 0.2", ours_s, peer_s, 1.0, remark)


def pgd_training(bench: Bench, precision: str) -> Row:
    """Adversarial training against the plain loop, one epoch."""
    x = bench.images(bench.size.training_images)
    y = torch.arange(len(x)) % 10
    images = (255 * x).to(torch.uint8).cpu()
    train, validation = Split(images, y), Split(images[:64], y[:64])
    epsilon = 8 / 255
    settings = Training.model_validate(
        {
            "epochs": 1,
            "batch_size": TRAINING_BATCH,
            "optimizer": {"name": "sgd", "lr": 0.01},
            "adversary": {"name": "pgd", "epsilon": epsilon, "steps": TRAINING_STEPS},
            "precision": precision,
        }
    )
    start, labels = bench.network(), y.to(bench.device)

    def ours() -> None:
        normalization = Normalization((0.0,) * 3, (1.0,) * 3)
        network = ImportedNetwork(normalization=normalization, body=copy.deepcopy(start).cpu(), head=Head())
        fit(network, Spec("cross_entropy"), train, validation, settings=settings, seed=0, device=bench.device)

    def peer() -> None:
        network = copy.deepcopy(start).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for rows in torch.randperm(len(x), device=bench.device).split(TRAINING_BATCH):
            step_size = 2.5 * epsilon / TRAINING_STEPS
            x_adv = plain_pgd(network, x[rows], labels[rows], epsilon, TRAINING_STEPS, step_size)
            optimizer.zero_grad()
            functional.cross_entropy(network(x_adv), labels[rows]).backward()
            optimizer.step()

    ours_s, peer_s = bench.compare(ours, peer)
    remark = f"{len(x) / ours_s:.0f} against {len(x) / peer_s:.0f} images per second"
    target = 1.5 if precision == "bfloat16" else None
    return Row(
        f"PGD-{TRAINING_STEPS} training of a ResNet-18, {precision}", "plain loop", ours_s, peer_s, target, remark
    )


def judge(bench: Bench) -> Row:
    """The judge's forward passes in IEEE float32, compared with torch's default arithmetic."""
    network, x = bench.network(), bench.images(bench.size.judged)
    judging = Judge(network, device=bench.device, batch_size=1024)

    def default() -> Tensor:
        with torch.no_grad():
            return torch.cat([network(part) for part in x.split(1024)])

    ours_s, peer_s = bench.compare(lambda: judging.logits(x), default)
    exact = Judge(network, device=bench.device, dtype=torch.float64, batch_size=256).logits(x[:256])
    scale = float(exact.abs().max())
    errors = [float((logits[:256].double() - exact).abs().max()) / scale for logits in (judging.logits(x), default())]
    remark = (
        f"{len(x) / ours_s:.0f} against {len(x) / peer_s:.0f} images per second; largest error of a logit, of the "
        f"largest: {errors[0]:.1e} against {errors[1]:.1e}"
    )
    return Row("Judge: a ResNet-18 in IEEE float32", "torch's default", ours_s, peer_s, None, remark)


def side_by_side(bench: Bench) -> Row:
    """Small trainings at once on one device, each in its own process, against one after the other."""
    count = bench.size.trainings
    command = [sys.executable, __file__, "--train", str(bench.size.epochs), "--device", str(bench.device)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    children = [subprocess.Popen(command, **pipes) for _ in range(count)]

    def begin(child: subprocess.Popen[str]) -> None:
        child.stdin.write("train\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]

    def wait(child: subprocess.Popen[str]) -> None:
        if child.stdout.readline().strip() != "done":  # type: ignore[union-attr]
            raise RuntimeError("a training ended")

    def together() -> None:
        for child in children:
            begin(child)
        for child in children:
            wait(child)

    def one_by_one() -> None:
        for child in children:
            begin(child)
            wait(child)

    try:
        for child in children:
            wait(child)  # Loaded, and trained once.
        ours_s, peer_s = replace(bench, repeats=min(bench.repeats, 3)).compare(together, one_by_one)
    finally:
        for child in children:
            child.communicate()
    served = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"), "control").exists()
    remark = f"digits, {bench.size.epochs} epochs each, with{'' if served else 'out'} MPS"
    return Row(f"{count} small trainings at once", "one after the other", ours_s, peer_s, 4.0, remark)


def train_on_request(epochs: int, device: torch.device) -> None:
    """Train a small network on the digits once, and again for each line of standard input."""
    data = prepare(Spec("sklearn_digits"), seed=0)
    set_determinism(True)
    settings = Training(epochs=epochs, batch_size=64)
    splits = data.splits["train"], data.splits["validation"]
    shape = tuple(splits[0].images.shape[1:])

    def train() -> None:
        network = build(Spec("cnn"), image_shape=shape, num_classes=10, mean=data.mean, std=data.std)
        fit(network, Spec("cross_entropy"), *splits, settings=settings, seed=0, device=device)

    train()
    print("done", flush=True)
    for _ in sys.stdin:
        train()
        print("done", flush=True)


CASES: dict[str, Callable[[Bench], Row]] = {
    "pgd_most_fall": lambda bench: pgd(bench, 0.2),
    "pgd_most_survive": lambda bench: pgd(bench, 0.8),
    "judge": judge,
    "training_bfloat16": lambda bench: pgd_training(bench, "bfloat16"),
    "training_float32": lambda bench: pgd_training(bench, "float32"),
    "side_by_side": side_by_side,
    "autoattack": autoattack,
}


def measure(bench: Bench, names: list[str], *, limit_s: float) -> Iterator[dict[str, Any]]:
    """Run the measurements, each if there is time left; after each, yield everything that the page states."""
    began_s = time.monotonic()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT)
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    results = {
        "device": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU",
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip() or "unknown",
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
        "rows": rows,
        "left_out": left_out,
    }
    for name in names:
        if time.monotonic() - began_s > limit_s:
            left_out.append(name)
        else:
            row = CASES[name](bench)
            times = f"{row.ours_s:.3g} s, {row.peer} {row.peer_s:.3g} s, ratio {row.ratio:.2f}"
            print(f"{row.work}: {times}; {row.remark}", flush=True)
            rows.append(asdict(row))
        yield results


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="very little work, whose times mean nothing and are not kept"
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--train", type=int, metavar="EPOCHS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train_on_request(options.train, torch.device(options.device))
        return
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("torch finds no GPU on this machine: nothing is measured")
        return
    size, repeats = (TINY, 1) if options.tiny else (Size(), options.repeats)
    bench = Bench(torch.device(options.device), size, repeats)
    for results in measure(bench, options.only, limit_s=60 * options.minutes):
        if bench.device.type == "cuda" and not options.tiny:
            RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            write_page()


if __name__ == "__main__":
    main()
