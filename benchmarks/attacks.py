"""How long attacks take, beside the plain Foolbox loop and, where installed, other libraries: DESIGN's targets.

    .venv/bin/python benchmarks/attacks.py --root FOLDER [--images 1000] [--repeats 5] [--only CASE ...]
    .venv/bin/python benchmarks/attacks.py --root FOLDER --profile CASE
    .venv/bin/python benchmarks/attacks.py --root FOLDER --share pgd_most_survive
    .venv/bin/python benchmarks/attacks.py --root FOLDER --grid 10000

FOLDER holds MNIST as torchvision stores it. One small CNN is trained on it for two epochs, and attacked on the first
test images, by all in turn, `repeats` times; medians are compared, robust accuracies stand beside them. The plain loop
is what a tutorial shows: the network in eval mode, batches of 250, every budget on every image. Ours is
`gauntlet.evaluate` with its default settings: all checks, all columns of the rows. Carlini and Wagner's attack does not
abort early on either side: in Foolbox that ends a batch when its summed loss stalls.

`--share` states how much of a case is the model's own passes: it notes every pass, and makes the same ones again
with nothing around them. `--grid N` times PGD-40 at the eight budgets of the curve on N images.
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
    """One piece of work, ours and as a Foolbox attack; `epsilons` None stands for a minimum-norm attack.

    `others` names the sides beside Foolbox that can do it, where their packages are installed.
    """

    target: float
    ours: dict[str, object]
    theirs: Callable[[], object] | None
    epsilons: Sequence[float] | None
    images: int | None = None
    others: tuple[str, ...] = ()


def _pgd(epsilons: Sequence[float]) -> dict[str, object]:
    # Foolbox's own step size: 0.01 / 0.3 of the budget, times 2.5 so that 40 steps cross the ball as ours do.
    return {"name": "pgd", "norm": "linf", "steps": 40, "epsilons": list(epsilons)}


def _foolbox_pgd() -> object:
    return foolbox.attacks.LinfPGD(steps=40, rel_stepsize=2.5 / 40)


# From this constant five steps of the search reach all images; from the default of 0.001 they do not.
_CARLINI_WAGNER = {"steps": 100, "binary_search_steps": 5, "initial_const": 1.0}

CASES = {
    "pgd_most_fall": Case(20, _pgd([0.3]), _foolbox_pgd, [0.3], others=("art",)),
    "pgd_most_survive": Case(5, _pgd([0.03]), _foolbox_pgd, [0.03], others=("art",)),
    "pgd_curve": Case(15, _pgd(CURVE), _foolbox_pgd, CURVE),
    "carlini_wagner": Case(
        3,
        {
            "name": "foolbox:L2CarliniWagnerAttack",
            "norm": "l2",
            "steps": 100,
            "binary_search_steps": 5,
        },
        lambda: foolbox.attacks.L2CarliniWagnerAttack(steps=100, binary_search_steps=5, abort_early=False),
        None,
        images=100,
    ),
    "apgd": Case(
        1,
        {"name": "apgd", "norm": "linf", "epsilons": [0.1]},
        None,
        [0.1],
        others=("pyautoattack",),
    ),
}


def main() -> None:
    """Train, attack in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder that holds MNIST")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--share",
        choices=list(CASES),
        help="the share of the model's own passes in one case",
    )
    parser.add_argument("--grid", type=int, help="time the eight budgets of the curve on so many images")
    parser.add_argument(
        "--profile",
        choices=list(CASES),
        help="where the time of one case goes, instead of comparing",
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
        found = ours(CASES["pgd_curve"], network, images, labels, arguments.precision)
        print(f"{len(images)} images, PGD-40, 8 budgets: {time.perf_counter() - start:.0f} s")
        print("  robust    " + " ".join(f"{value:.4f}" for value in found))
        return
    for name in arguments.only:
        compare(name, CASES[name], network, images, labels, arguments)


def trained(root: str, count: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Train the small CNN for two epochs on 20 000 images; give it with the first test images and their labels."""
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
    """Run both sides in turn and print medians, ratio and robust accuracies."""
    count = case.images or len(images)
    x, y = images[:count], labels[:count]
    sides: dict[str, Callable[[], list[float]]] = {}
    if case.theirs is not None:
        sides["foolbox"] = lambda: plain(case, network, x, y)
    for other in case.others:
        if importlib.util.find_spec(other):
            sides[other] = lambda run=PEERS[other]: run(case, network, x, y)  # type: ignore[misc]
    sides["gauntlet"] = lambda: ours(case, network, x, y, arguments.precision)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    results: dict[str, list[float]] = {}
    for _ in range(arguments.repeats):
        for side, run in sides.items():
            start = time.perf_counter()
            results[side] = run()
            seconds[side].append(time.perf_counter() - start)
    median = {side: statistics.median(values) for side, values in seconds.items()}
    print(f"{name}: {count} images, medians of {arguments.repeats}, gauntlet {median['gauntlet']:.2f} s")
    for side in [side for side in sides if side != "gauntlet"]:
        ratio = f"ratio {median[side] / median['gauntlet']:.1f} (target {case.target:g})"
        print(f"  {side:12s} {median[side]:.2f} s, {ratio}")
    for side, values in results.items():
        print(f"  {side:12s} robust " + " ".join(f"{value:.3f}" for value in values))


def plain(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack as a tutorial shows; give robust accuracies per budget, or the median distance."""
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    attack = case.theirs() if case.theirs else None
    robust: list[float] = []
    if case.epsilons is None:
        distances = []
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            found, _, success = attack(model, x, y, epsilons=None)  # type: ignore[operator]
            distances.append(torch.where(success, (found - x).flatten(1).norm(dim=1), torch.inf))
        return [float(torch.cat(distances).median())]
    for epsilon in case.epsilons:
        broken = 0
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            _, _, success = attack(model, x, y, epsilons=epsilon)  # type: ignore[operator]
            broken += int(success.sum())
        robust.append(1 - broken / len(images))
    return robust


def art(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack by the Adversarial Robustness Toolbox's PGD; robust accuracies per budget."""
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
        found = torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))
        robust.append(float((network(found).argmax(1) == labels).float().mean()))
    return robust


def pyautoattack(case: Case, network: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Attack by the authors' APGD on cross-entropy; robust accuracies per budget."""
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
        parts = zip(images.split(BATCH), labels.split(BATCH), strict=True)
        found = torch.cat([attack.perturb(x, y) for x, y in parts])
        robust.append(float((network(found).argmax(1) == labels).float().mean()))
    return robust


PEERS = {"art": art, "pyautoattack": pyautoattack}


def ours(case: Case, network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> list[float]:
    """Attack by our evaluator; the same figures."""
    rows = gauntlet.evaluate(network, images, labels, case.ours, precision=precision)  # type: ignore[arg-type]
    found = torch.tensor([float("inf") if value is None else value for value in rows["epsilon"].to_pylist()])
    if case.epsilons is None:
        return [float(found.median())]
    return [float((found > epsilon * 1.000001).float().mean()) for epsilon in case.epsilons]


def share(
    case: Case,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    arguments: argparse.Namespace,
) -> None:
    """Time a case, then only the passes that it made of the network, on batches of the same sizes."""
    passes: list[Callable[[], object]] = []
    ask, judge = AttackModel._query, Judge._forward

    def noted(model: AttackModel, view: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        size, gradient = len(x), x.requires_grad
        batch = images[:size].contiguous(memory_format=torch.channels_last)

        def again() -> None:
            x = batch.detach().requires_grad_(gradient)
            with (
                torch.set_grad_enabled(gradient),
                torch.autocast("cpu", torch.bfloat16, enabled=model.autocast),
            ):
                output = model.network(x)
            if gradient:
                torch.autograd.grad(output, x, torch.ones_like(output))

        passes.append(again)
        return ask(model, view, x)

    def judged(one: Judge, x: Tensor) -> Tensor:
        passes.append(partial(judge, one, images[: len(x)]))
        return judge(one, x)

    AttackModel._query, Judge._forward = noted, judged  # type: ignore[method-assign]
    ours(case, network, images, labels, arguments.precision)
    AttackModel._query, Judge._forward = ask, judge  # type: ignore[method-assign]
    seconds: dict[str, list[float]] = {"whole": [], "bare": []}
    for _ in range(arguments.repeats):
        start = time.perf_counter()
        ours(case, network, images, labels, arguments.precision)
        seconds["whole"].append(time.perf_counter() - start)
        start = time.perf_counter()
        for again in passes:
            again()
        seconds["bare"].append(time.perf_counter() - start)
    whole, bare = (statistics.median(seconds[side]) for side in ("whole", "bare"))
    print(f"{whole:.2f} s, of which {bare:.2f} s ({100 * bare / whole:.0f} %) are {len(passes)} passes of the network")


def profile(case: Case, network: nn.Module, images: Tensor, labels: Tensor, precision: str) -> None:
    """Print where the time of one evaluation goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    ours(case, network, images[:256], labels[:256], precision)
    with record(activities=[ProfilerActivity.CPU]) as found:
        ours(case, network, images, labels, precision)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


if __name__ == "__main__":
    main()
