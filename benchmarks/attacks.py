"""Time of attacks, compared with the plain Foolbox loop, and with the authors' own APGD (pyautoattack).

    python benchmarks/attacks.py --root FOLDER [--network ours|plain] [--precision auto|float32|bfloat16]
                                 [--images 1000] [--repeats 5] [--only CASE ...]
    python benchmarks/attacks.py --root FOLDER --share CASE      (share of a case in the network's own passes)
    python benchmarks/attacks.py --root FOLDER --profile CASE    (operators that take the most time)
    python benchmarks/attacks.py --root FOLDER --grid 10000      (PGD-40 at the eight budgets of the curve)

FOLDER holds MNIST as torchvision stores it. The network, our small `cnn` or a plain `nn.Sequential`, is trained on
20 000 images for two epochs (`--cache FILE` keeps it). Both sides attack its first test images, one after the other,
`--repeats` times after a short run of each; printed are medians of CPU seconds, their ratio, and the robust accuracies,
or the median distance and the share of images without a success, of both. The plain loop is that of a tutorial: eval
mode, batches of 250, every budget on every image. Gauntlet is `gauntlet.evaluate` with its default settings: all
checks, all columns of the rows. Carlini and Wagner's attack starts at a constant from which both sides reach nearly all
images.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

import gauntlet
from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec

warnings.filterwarnings("ignore", category=DeprecationWarning)
import foolbox  # noqa: E402

BATCH = 250
CURVE = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
_CONSTANTS = {"steps": 100, "binary_search_steps": 5, "initial_const": 1.0}
Side = Callable[[nn.Module, Tensor, Tensor], list[float]]


@dataclass(frozen=True)
class Case:
    """An attack as an entry of a configuration, and the loop it is compared with on at most `images` images.

    `targets` are the ratios of times to reach, with bfloat16 units and in float32.
    """

    attack: dict[str, object]
    peer: Side
    targets: tuple[float, float]
    images: int = 1000


def loop(attack: Callable[[], object], epsilons: Sequence[float] | None) -> Side:
    """Build the plain Foolbox loop; without `epsilons` it returns median distance and share of failures."""

    def run(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        batches = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
        results = []
        for epsilon in [None] if epsilons is None else epsilons:
            found = [attack()(model, x, y, epsilons=epsilon) for x, y in batches]  # type: ignore[operator]
            success = torch.cat([flags for _, _, flags in found])
            if epsilon is None:
                size = (torch.cat([x_adv for _, x_adv, _ in found]) - images).flatten(1).norm(dim=1)
                return summary(torch.where(success, size, torch.inf))
            results.append(1 - float(success.float().mean()))
        return results

    return run


def authors_apgd(network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack with the authors' APGD on the cross-entropy at 0.1; return the robust accuracy."""
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(network, norm="Linf", eps=0.1, n_iter=100, loss="ce", seed=0, device="cpu")
    batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
    x_adv = torch.cat([attack.perturb(x, y) for x, y in batches])
    return [float((network(x_adv).argmax(1) == labels).float().mean())]


def _pgd(epsilons: Sequence[float], targets: tuple[float, float]) -> Case:
    def attack() -> object:
        return foolbox.attacks.LinfPGD(steps=40, rel_stepsize=2.5 / 40)  # the step size of `pgd`

    entry = {"name": "pgd", "norm": "linf", "steps": 40, "epsilons": list(epsilons)}
    return Case(entry, loop(attack, epsilons), targets)


def _foolbox_carlini_wagner() -> object:
    # Its early abort ends a whole batch when the summed loss stalls.
    return foolbox.attacks.L2CarliniWagnerAttack(**_CONSTANTS, stepsize=0.1, abort_early=False)


_CARLINI_WAGNER = {"name": "carlini_wagner", "norm": "l2", **_CONSTANTS, "step_size": 0.1}
_DDN = {"name": "foolbox:DDNAttack", "norm": "l2", "steps": 100}
CASES = {
    "pgd_most_fall": _pgd([0.3], (20, 12)),
    "pgd_most_survive": _pgd([0.03], (5, 3.3)),
    "pgd_curve": _pgd(CURVE, (15, 10)),
    "carlini_wagner": Case(_CARLINI_WAGNER, loop(_foolbox_carlini_wagner, None), (3, 3), images=100),
    "ddn_for_carlini_wagner": Case(_DDN, loop(_foolbox_carlini_wagner, None), (8, 8), images=100),
    "apgd": Case({"name": "apgd", "norm": "linf", "epsilons": [0.1]}, authors_apgd, (1, 1)),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds MNIST")
    parser.add_argument("--network", choices=["ours", "plain"], default="ours")
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--cache", type=Path, help="file that keeps the trained network")
    parser.add_argument("--share", choices=list(CASES), help="time the network's own passes of one case")
    parser.add_argument("--profile", choices=list(CASES), help="profile one case")
    parser.add_argument("--grid", type=int, help="time the eight budgets of the curve on this many images")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, images, labels = trained(arguments.root, arguments.network, arguments.cache)
    accuracy = float((network(images[:1000]).argmax(1) == labels[:1000]).float().mean())
    print(
        f"{arguments.network} network, clean accuracy {accuracy:.3f}, precision {arguments.precision}, "
        f"{arguments.threads} threads, torch {torch.__version__}"
    )

    def own(case: Case) -> Side:
        return lambda *data: evaluated(case, *data, precision=arguments.precision)

    if arguments.grid:
        seconds, robust = timed(own(CASES["pgd_curve"]), network, images[: arguments.grid], labels[: arguments.grid])
        print(f"{arguments.grid} images, PGD-40, 8 budgets: {seconds:.0f} CPU s, robust {listed(robust)}")
        return
    for name in [arguments.share or arguments.profile] if arguments.share or arguments.profile else arguments.only:
        case = CASES[name]
        count = min(arguments.images, case.images)
        data = network, images[:count], labels[:count]
        if arguments.profile:
            profile(own(case), *data)
        elif arguments.share:
            share(own(case), *data, repeats=arguments.repeats)
        else:
            compare(name, case, own(case), *data, repeats=arguments.repeats)


def trained(root: str, kind: str, cache: Path | None) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained for two epochs, or the one in the cache, the test images and their labels."""
    source = Spec("torchvision", {"name": "MNIST", "root": root, "download": False})
    data = prepare(source, limit={"train": 25_000, "test": None})
    train, validation, test = (data.splits[name] for name in ("train", "validation", "test"))
    images, labels = to_unit(test.images), test.labels
    if cache is not None and cache.exists():
        return torch.load(cache, weights_only=False), images, labels  # a file that this script wrote
    network = plain_network() if kind == "plain" else None
    if network is None:
        built = build(Spec("cnn"), image_shape=(1, 28, 28), num_classes=10, mean=data.mean, std=data.std)
        settings = Training(epochs=2, batch_size=64)
        network = fit(built, Spec("cross_entropy"), train, validation, settings=settings, seed=0).network
    else:
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(2):
            for rows in torch.randperm(len(train.labels)).split(64):
                loss = nn.functional.cross_entropy(network(to_unit(train.images[rows])), train.labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    if cache is not None:
        torch.save(network.eval(), cache)
    return network.eval(), images, labels


def plain_network() -> nn.Module:
    """Build a network as PyTorch's tutorials do: none of it is ours."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def evaluated(case: Case, network: nn.Module, images: Tensor, labels: Tensor, *, precision: str) -> list[float]:
    """Attack with `gauntlet.evaluate`; return the robust accuracy per budget, or as `summary` does."""
    rows = gauntlet.evaluate(network, images, labels, case.attack, precision=precision)  # type: ignore[arg-type]
    found = torch.tensor([float("inf") if value is None else value for value in rows["epsilon"].to_pylist()])
    budgets = case.attack.get("epsilons")
    if not isinstance(budgets, list):
        return summary(found)
    return [float((found > epsilon * 1.000001).float().mean()) for epsilon in budgets]


def summary(distances: Tensor) -> list[float]:
    """Return the median distance and the share of infinite ones."""
    return [float(distances.median()), float(distances.isinf().float().mean())]


def timed(run: Side, network: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, list[float]]:
    """Run once; return CPU seconds and results."""
    start = time.process_time()
    results = run(network, images, labels)
    return time.process_time() - start, results


def compare(
    name: str, case: Case, own: Side, network: nn.Module, images: Tensor, labels: Tensor, *, repeats: int
) -> None:
    """Run both sides in turn; print medians of CPU seconds, their ratio and the targets, and both results."""
    sides = {"peer": case.peer, "gauntlet": own}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    results: dict[str, list[float]] = {}
    for run in sides.values():
        run(network, images[:8], labels[:8])
    for _ in range(repeats):
        for side, run in sides.items():
            spent, results[side] = timed(run, network, images, labels)
            seconds[side].append(spent)
    peer, mine = (statistics.median(values) for values in seconds.values())
    with_units, without = case.targets
    print(
        f"{name}: {len(images)} images, medians of {repeats}: peer {peer:.2f} s, gauntlet {mine:.2f} s, "
        f"ratio {peer / mine:.2f} (target {with_units:g}, in float32 {without:g})"
    )
    for side, values in results.items():
        print(f"  {side:8s} {listed(values)}", flush=True)


def listed(values: Sequence[float]) -> str:
    """Format numbers for a line."""
    return " ".join(f"{value:.4f}" for value in values)


def share(own: Side, network: nn.Module, images: Tensor, labels: Tensor, *, repeats: int) -> None:
    """Time a case, then only the network's passes in it, on batches of the same sizes."""
    passes: list[Callable[[], object]] = []
    copies: dict[int, nn.Module] = {}

    def record(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        x = inputs[0] if inputs else None
        if type(module) is not type(network) or x is None or x.shape[1:] != images.shape[1:]:
            return
        if id(module) not in copies:
            copies[id(module)] = copy.deepcopy(module)
            copies[id(module)]._forward_hooks.clear()
        passes.append(recorded_pass(copies[id(module)], x.detach().clone(), outputs.requires_grad))

    handle = register_module_forward_hook(record)  # type: ignore[arg-type]
    own(network, images, labels)
    handle.remove()
    seconds: dict[str, list[float]] = {"case": [], "passes": []}
    for _ in range(repeats):
        seconds["case"].append(timed(own, network, images, labels)[0])
        start = time.process_time()
        for repeat in passes:
            repeat()
        seconds["passes"].append(time.process_time() - start)
    case, bare = (statistics.median(values) for values in seconds.values())
    print(f"{case:.2f} CPU s, of which {bare:.2f} s ({100 * bare / case:.0f} %) are {len(passes)} passes (target 85 %)")


def recorded_pass(module: nn.Module, x: Tensor, gradient: bool) -> Callable[[], object]:
    """Build a function that repeats a pass on the same images, in the precision in use now."""
    autocast = torch.is_autocast_enabled("cpu")

    def repeat() -> None:
        leaf = x.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = module(leaf)
        if gradient:
            torch.autograd.grad(output, leaf, torch.ones_like(output))

    return repeat


def profile(own: Side, network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Print the operators that take the most time in one evaluation."""
    own(network, images[:64], labels[:64])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        own(network, images, labels)
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=15, max_name_column_width=40))


if __name__ == "__main__":
    main()
