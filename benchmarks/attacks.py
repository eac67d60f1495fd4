"""Time of attacks, compared with the plain Foolbox loop and, where installed, other libraries.

    .venv/bin/python benchmarks/attacks.py --root FOLDER [--images 1000] [--repeats 5] [--only CASE ...]
    .venv/bin/python benchmarks/attacks.py --root FOLDER --profile CASE
    .venv/bin/python benchmarks/attacks.py --root FOLDER --share pgd_most_survive
    .venv/bin/python benchmarks/attacks.py --root FOLDER --grid 10000

FOLDER holds MNIST as torchvision stores it. One small CNN is trained on it for two epochs. All libraries attack its
first test images, one after the other, `repeats` times; the script prints median times and robust accuracies. The plain
loop is that of a tutorial: the network in eval mode, batches of 250, every budget on every image. Gauntlet is
`gauntlet.evaluate` with its default settings: all checks, all columns of the rows. Carlini and Wagner's attack does not
abort early in either library: in Foolbox that ends a batch when its summed loss stalls.

`--share` prints the share of a case's time that the network's own passes take: it records every pass, and repeats the
passes alone. `--grid N` times PGD-40 at the eight budgets of the curve on N images.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import gauntlet
from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import prepare
from gauntlet.learning.data.splits import to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.judge import Judge

warnings.filterwarnings("ignore", category=DeprecationWarning)
import foolbox  # noqa: E402

BATCH = 250
CURVE = (0.02, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Case:
    """An attack as an entry of Gauntlet and as a Foolbox object; `epsilons` is None for a minimum-norm attack.

    `target` is the ratio of times to reach; `peers` names the other libraries that have the attack.
    """

    target: float
    attack: dict[str, object]
    foolbox_attack: Callable[[], object] | None
    epsilons: Sequence[float] | None
    images: int | None = None
    peers: tuple[str, ...] = ()


def _pgd(epsilons: Sequence[float]) -> dict[str, object]:
    return {"name": "pgd", "norm": "linf", "steps": 40, "epsilons": list(epsilons)}


def _foolbox_pgd() -> object:
    # The step size of `pgd`: 2.5 epsilon / steps.
    return foolbox.attacks.LinfPGD(steps=40, rel_stepsize=2.5 / 40)


# With Foolbox's defaults, initial_const 0.001 and stepsize 0.01, so few steps reach a third of the images only.
_CARLINI_WAGNER = {"steps": 100, "binary_search_steps": 5, "initial_const": 1.0, "stepsize": 0.1}

CASES = {
    "pgd_most_fall": Case(20, _pgd([0.3]), _foolbox_pgd, [0.3], peers=("art",)),
    "pgd_most_survive": Case(5, _pgd([0.03]), _foolbox_pgd, [0.03], peers=("art",)),
    "pgd_curve": Case(15, _pgd(CURVE), _foolbox_pgd, CURVE),
    "carlini_wagner": Case(
        3,
        {"name": "foolbox:L2CarliniWagnerAttack", "norm": "l2", **_CARLINI_WAGNER},
        lambda: foolbox.attacks.L2CarliniWagnerAttack(**_CARLINI_WAGNER, abort_early=False),
        None,
        images=100,
    ),
    "apgd": Case(1, {"name": "apgd", "norm": "linf", "epsilons": [0.1]}, None, [0.1], peers=("pyautoattack",)),
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder that holds MNIST")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--share",
        choices=list(CASES),
        help="print the share of one case that the network's own passes take",
    )
    parser.add_argument("--grid", type=int, help="time the eight budgets of the curve on this many images")
    parser.add_argument(
        "--profile",
        choices=list(CASES),
        help="profile one case",
    )
    arguments = parser.parse_args()
    network, images, labels = trained(arguments.root, arguments.grid or arguments.images)
    accuracy = float((network(images[:1000]).argmax(1) == labels[:1000]).float().mean())
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, clean accuracy {accuracy:.3f}")
    if arguments.profile:
        profile(CASES[arguments.profile], network, images, labels, arguments.precision)
        return
    if arguments.share:
        share(CASES[arguments.share], network, images, labels, arguments)
        return
    if arguments.grid:
        start = time.perf_counter()
        accuracies = run_gauntlet(CASES["pgd_curve"], network, images, labels, arguments.precision)
        print(f"{len(images)} images, PGD-40, 8 budgets: {time.perf_counter() - start:.0f} s")
        print("  robust    " + " ".join(f"{value:.4f}" for value in accuracies))
        return
    for name in arguments.only:
        compare(name, CASES[name], network, images, labels, arguments)


def trained(root: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Train the small CNN for two epochs on 20 000 images; return it with the first test images and their labels."""
    source = Spec("torchvision", {"name": "MNIST", "root": root, "download": False})
    data = prepare(source, limit={"train": 25_000, "test": None})
    network = build(
        Spec("cnn"),
        image_shape=(1, 28, 28),
        num_classes=10,
        mean=data.mean,
        std=data.std,
    )
    settings = Training(epochs=2, batch_size=64)
    train, validation, test = (data.splits[name] for name in ("train", "validation", "test"))
    fitted = fit(network, Spec("cross_entropy"), train, validation, settings=settings, seed=0)
    return fitted.network.eval(), to_unit(test.images[:count]), test.labels[:count]


def compare(
    name: str,
    case: Case,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    arguments: argparse.Namespace,
) -> None:
    """Run all libraries in turn; print median times, ratios and robust accuracies."""
    count = case.images or len(images)
    x, y = images[:count], labels[:count]
    libraries: dict[str, Callable[[], list[float]]] = {}
    if case.foolbox_attack is not None:
        libraries["foolbox"] = lambda: run_foolbox(case, network, x, y)
    for peer in case.peers:
        if importlib.util.find_spec(peer):
            libraries[peer] = lambda run=PEERS[peer]: run(case, network, x, y)  # type: ignore[misc]
    libraries["gauntlet"] = lambda: run_gauntlet(case, network, x, y, arguments.precision)
    seconds: dict[str, list[float]] = {library: [] for library in libraries}
    accuracies: dict[str, list[float]] = {}
    for _ in range(arguments.repeats):
        for library, run in libraries.items():
            start = time.perf_counter()
            accuracies[library] = run()
            seconds[library].append(time.perf_counter() - start)
    median = {library: statistics.median(values) for library, values in seconds.items()}
    print(f"{name}: {count} images, medians of {arguments.repeats}, gauntlet {median['gauntlet']:.2f} s")
    for library in [library for library in libraries if library != "gauntlet"]:
        ratio = f"ratio {median[library] / median['gauntlet']:.1f} (target {case.target:g})"
        print(f"  {library:12s} {median[library]:.2f} s, {ratio}")
    for library, values in accuracies.items():
        print(f"  {library:12s} robust " + " ".join(f"{value:.3f}" for value in values))


def run_foolbox(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack as a tutorial does; return the robust accuracy per budget, or the median distance."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    attack = case.foolbox_attack() if case.foolbox_attack else None
    if case.epsilons is None:
        distances = []
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            x_adv, _, success = attack(model, x, y, epsilons=None)  # type: ignore[operator]
            distances.append(torch.where(success, (x_adv - x).flatten(1).norm(dim=1), torch.inf))
        return [float(torch.cat(distances).median())]
    robust: list[float] = []
    for epsilon in case.epsilons:
        adversarial = 0
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            _, _, success = attack(model, x, y, epsilons=epsilon)  # type: ignore[operator]
            adversarial += int(success.sum())
        robust.append(1 - adversarial / len(images))
    return robust


def art(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack with PGD of the Adversarial Robustness Toolbox; return the robust accuracy per budget."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    shape = tuple(images.shape[1:])
    loss = nn.CrossEntropyLoss()
    estimator = PyTorchClassifier(network, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu")
    robust = []
    for epsilon in case.epsilons or ():
        attack = ProjectedGradientDescentPyTorch(
            estimator,
            eps=epsilon,
            eps_step=2.5 * epsilon / 40,
            max_iter=40,
            num_random_init=1,
            batch_size=BATCH,
            verbose=False,
        )
        x_adv = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
        robust.append(float((network(x_adv).argmax(1) == labels).float().mean()))
    return robust


def pyautoattack(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack with the authors' APGD on cross-entropy; return the robust accuracy per budget."""
    from pyautoattack.autopgd_base import APGDAttack

    robust = []
    for epsilon in case.epsilons or ():
        attack = APGDAttack(
            network,
            norm="Linf",
            eps=epsilon,
            n_iter=100,
            loss="ce",
            seed=0,
            device="cpu",
        )
        batches = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        x_adv = torch.cat([attack.perturb(x, y) for x, y in batches])
        robust.append(float((network(x_adv).argmax(1) == labels).float().mean()))
    return robust


PEERS = {"art": art, "pyautoattack": pyautoattack}


def run_gauntlet(case: Case, network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> list[float]:
    """Attack with Gauntlet's evaluator; return the robust accuracy per budget, or the median distance."""
    rows = gauntlet.evaluate(network, images, labels, case.attack, precision=precision)  # type: ignore[arg-type]
    budgets = torch.tensor([float("inf") if value is None else value for value in rows["epsilon"].to_pylist()])
    if case.epsilons is None:
        return [float(budgets.median())]
    return [float((budgets > epsilon * 1.000001).float().mean()) for epsilon in case.epsilons]


def share(
    case: Case,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    arguments: argparse.Namespace,
) -> None:
    """Time a case, then only the network's passes in it, on batches of the same sizes."""
    passes: list[Callable[[], object]] = []
    query, judge = AttackModel._query, Judge._forward

    def recorded_query(model: AttackModel, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        size, gradient = len(x), x.requires_grad
        batch = images[:size].contiguous(memory_format=torch.channels_last)

        def repeat() -> None:
            x = batch.detach().requires_grad_(gradient)
            with (
                torch.set_grad_enabled(gradient),
                torch.autocast("cpu", torch.bfloat16, enabled=model.autocast),
            ):
                output = model.network(x)
            if gradient:
                torch.autograd.grad(output, x, torch.ones_like(output))

        passes.append(repeat)
        return query(model, forward, x)

    def recorded_judge(model_judge: Judge, x: Tensor) -> Tensor:
        passes.append(partial(judge, model_judge, images[: len(x)]))
        return judge(model_judge, x)

    AttackModel._query, Judge._forward = recorded_query, recorded_judge  # type: ignore[method-assign]
    run_gauntlet(case, network, images, labels, arguments.precision)
    AttackModel._query, Judge._forward = query, judge  # type: ignore[method-assign]
    seconds: dict[str, list[float]] = {"case": [], "passes": []}
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        run_gauntlet(case, network, images, labels, arguments.precision)
        seconds["case"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for repeat in passes:
            repeat()
        seconds["passes"].append(time.perf_counter() - start)
    whole, bare = (statistics.median(seconds[part]) for part in ("case", "passes"))
    print(f"{whole:.2f} s, of which {bare:.2f} s ({100 * bare / whole:.0f} %) are {len(passes)} passes of the network")


def profile(case: Case, network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> None:
    """Print the operators that take the most time in one evaluation."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    run_gauntlet(case, network, images[:256], labels[:256], precision)
    with record(activities=[ProfilerActivity.CPU]) as recorded:
        run_gauntlet(case, network, images, labels, precision)
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


if __name__ == "__main__":
    main()
