"""How long a training step takes, beside the source documents' loops written out plainly: DESIGN's targets.

    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER [--only CASE ...] [--repeats 5] [--steps N]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --epochs 5 [--seeds 3]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --profile CASE

`--root` holds MNIST and Fashion-MNIST as torchvision stores them, `--cifar10` the parquet tables of CIFAR-10 (JPEG).
The plain loop is what the documents show, in PyTorch: a data set that gives one image at a time to ToTensor and
Normalize, a DataLoader, `.item()` of loss and accuracy in every step; for source D deel-torchlip's own layers and loss.
It runs without worker processes and with two, and the faster counts. Ours is `learning.training` as a stage uses it:
images as uint8 on the device, batches and augmentation by address, an epoch's figures gathered without waiting. Both
sides have the same network, the same initial weights, the same optimiser and the same threads of one process.

Sides run in turn, `repeats` times: each begins an epoch anew, makes a few steps that do not count, then `steps` that
do, loading included. Medians of wall and of CPU seconds a step are printed; on a busy machine the second is the
steadier. `--epochs` trains both sides on the whole training split instead, and prints the test accuracies after the
last epoch, means over `--seeds` initialisations, and the seconds of an epoch with its test.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import channel_statistics
from gauntlet.learning.data.splits import RawData
from gauntlet.learning.models.build import build
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import AUGMENTATIONS, MODELS, SOURCES, Registry, Spec

WARM_UP = 2
WORKERS = (0, 2)


@dataclass(frozen=True)
class Case:
    """One training of a source document: our names for its parts, and the plain ones.

    `layers` are the plain network's; the weights of ours go into them in order. `transform` is what the plain loop does
    to a PIL image before ToTensor, `after` between ToTensor and Normalize.
    """

    target: float
    steps: int
    data: str
    model: Spec
    loss: Spec
    settings: Training
    layers: Callable[[], nn.Module]
    criterion: Callable[[], nn.Module]
    adam: dict[str, Any] = field(default_factory=dict)
    normalize: bool = True
    transform: tuple[Callable[..., Any], ...] = ()
    after: tuple[Callable[..., Any], ...] = ()


class Images(Dataset[tuple[Tensor, int]]):
    """CIFAR-10 as torchvision's class gives it: an array of uint8, from which each access makes a PIL image."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform, self.to_pil = transform, transforms.ToPILImage()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.to_pil(self.images[index])), self.labels[index]


class OneHotHkr(nn.Module):
    """deel-torchlip's loss on one-hot targets, as source D calls it, in the package's present scale."""

    def __init__(self) -> None:
        super().__init__()
        from deel import torchlip

        self.loss = torchlip.HKRMulticlassLoss(alpha=100 / 101, min_margin=0.5)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the loss `()`; its KR term is read as well, since the document prints it in every step."""
        from deel import torchlip

        one_hot = nn.functional.one_hot(target, num_classes=10)
        torchlip.functional.kr_loss(output.detach(), one_hot).mean().item()
        loss: Tensor = self.loss(output, one_hot)
        return loss


def lenet() -> nn.Module:
    """Source A's network."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def mnist_cnn() -> nn.Module:
    """Source C's network for MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 10)),
    )


def torchlip_cnn() -> nn.Module:
    """Source D's network, of deel-torchlip's layers."""
    from deel import torchlip

    network: nn.Module = torchlip.Sequential(
        torchlip.SpectralConv2d(1, 16, (3, 3), padding="same"),
        torchlip.GroupSort2(),
        torchlip.ScaledL2NormPool2d((2, 2)),
        torchlip.SpectralConv2d(16, 32, (3, 3), padding="same"),
        torchlip.GroupSort2(),
        torchlip.ScaledL2NormPool2d((2, 2)),
        nn.Flatten(),
        torchlip.SpectralLinear(1568, 64),
        torchlip.GroupSort2(),
        torchlip.SpectralLinear(64, 10, bias=False),
        k_coef_lip=1.0,
    )
    return network


def _noise(image: Tensor) -> Tensor:
    return (image + 0.3 * torch.randn_like(image)).clamp(0, 1)


_AMSGRAD = Training(batch_size=64, optimizer=Spec("adam", {"lr": 1e-3, "amsgrad": True}))
_AUGMENTED = Training(
    batch_size=64,
    optimizer=_AMSGRAD.optimizer,
    augmentation=[
        Spec("random_resized_crop", {"scale": 0.9}),
        Spec("rotation", {"degrees": 10.0}),
        Spec("gaussian_noise", {"std": 0.3}),
        Spec("random_erasing", {"smallest": 0.01, "largest": 0.05}),
    ],
)
_JOURNAL = {
    "transform": (transforms.RandomResizedCrop(28, scale=(0.9, 1.0)), transforms.RandomRotation(10)),
    "after": (_noise, transforms.RandomErasing(scale=(0.01, 0.05))),
}

CASES = {
    "lenet_cifar10": Case(
        *(3, 200, "cifar10", Spec("lenet"), Spec("cross_entropy")),
        *(Training(batch_size=50), lenet, nn.CrossEntropyLoss),
    ),
    "mnist_cnn": Case(
        *(3, 200, "MNIST", Spec("mnist_cnn"), Spec("cross_entropy"), _AMSGRAD, mnist_cnn, nn.CrossEntropyLoss),
        adam={"amsgrad": True},
    ),
    "mnist_cnn_augmented": Case(
        *(3, 200, "MNIST", Spec("mnist_cnn"), Spec("cross_entropy"), _AUGMENTED, mnist_cnn, nn.CrossEntropyLoss),
        adam={"amsgrad": True},
        **_JOURNAL,
    ),
    "hkr_fashion_mnist": Case(
        *(2, 15, "FashionMNIST", Spec("lipschitz_cnn"), Spec("hkr")),
        Training(batch_size=4096, optimizer=Spec("adam", {"lr": 1e-4})),
        *(torchlip_cnn, OneHotHkr),
        adam={"lr": 1e-4},
        normalize=False,
    ),
}


def main() -> None:
    """Time or train the sides of each case in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder that holds MNIST and Fashion-MNIST")
    parser.add_argument("--cifar10", help="the folder that holds CIFAR-10's parquet tables")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps that are timed; each case has its own number")
    parser.add_argument("--epochs", type=int, help="train for so many epochs and print accuracies instead")
    parser.add_argument("--seeds", type=int, default=1, help="initialisations of each side, with --epochs")
    parser.add_argument("--profile", choices=list(CASES), help="where the time of our steps goes, instead of comparing")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sequential model contains a layer which is not a Lipschitz layer")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in [arguments.profile] if arguments.profile else arguments.only:
        case = CASES[name]
        missing = _unregistered(case) or ("--cifar10" if case.data == "cifar10" and not arguments.cifar10 else "")
        if missing:
            print(f"{name}: skipped, there is no {missing}")
        elif arguments.profile:
            profile(Ours(case, load(case, arguments), seed=0), arguments.steps or case.steps)
        elif arguments.epochs:
            train(name, case, load(case, arguments), arguments)
        else:
            compare(name, case, load(case, arguments), arguments)


def _unregistered(case: Case) -> str:
    """Name the first of a case's components that does not exist, or nothing."""
    wanted: list[tuple[Registry, Spec]] = [(MODELS, case.model)]
    wanted += [(AUGMENTATIONS, spec) for spec in case.settings.augmentation]
    absent = [f"{registry.kind} `{spec.name}`" for registry, spec in wanted if spec.name not in registry.names()]
    return absent[0] if absent else ""


def load(case: Case, arguments: argparse.Namespace) -> RawData:
    """Read a case's training and test images."""
    spec = Spec("torchvision", {"name": case.data, "root": arguments.root, "download": False})
    if case.data == "cifar10":
        spec = Spec("parquet", {"root": arguments.cifar10})
    raw: RawData = SOURCES.load(spec.name)(**spec.options)
    return raw


class Ours:
    """Our training; the test split stands in the place of the validation split, as in source D."""

    def __init__(self, case: Case, raw: RawData, *, seed: int) -> None:
        assert raw.test is not None
        mean, std = channel_statistics(raw.train.images)
        shape = raw.train.image_shape
        network = build(case.model, image_shape=shape, num_classes=10, mean=mean, std=std, seed=seed)
        self.run = TrainingRun(network, case.loss, raw.train, raw.test, settings=case.settings, seed=seed)
        self.start = self.run.state()

    def steps(self, count: int) -> Iterator[None]:
        """Begin an epoch anew; the first `next` makes a few steps, the second `count` steps."""
        self.run.restore(self.start)
        self.run.run_steps(WARM_UP)
        yield
        self.run.run_steps(count)
        yield

    def epoch(self) -> float:
        """Train for an epoch; give the test accuracy."""
        return self.run.run_epoch().validation_accuracy or 0.0


class Plain:
    """The documents' loop, beginning with the weights that ours has."""

    def __init__(self, case: Case, arguments: argparse.Namespace, raw: RawData, ours: Ours, *, workers: int) -> None:
        statistics_ = channel_statistics(raw.train.images)
        normalize = [transforms.Normalize(*statistics_)] if case.normalize else []
        tested = transforms.Compose([transforms.ToTensor(), *normalize])
        trained = transforms.Compose([*case.transform, transforms.ToTensor(), *case.after, *normalize])
        self.train_set, self.test_set = (
            _data_set(case, arguments, raw, split, transform)
            for split, transform in (("train", trained), ("test", tested))
        )
        size = case.settings.batch_size
        self.train_loader = DataLoader(self.train_set, size, shuffle=True, num_workers=workers)
        self.test_loader = DataLoader(self.test_set, size, num_workers=workers)
        self.network, self.criterion = case.layers(), case.criterion()
        _copy_parameters(ours.run.network, self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), **{"lr": 1e-3, **case.adam})

    def steps(self, count: int) -> Iterator[None]:
        """Begin an epoch anew; the first `next` makes a few steps, the second `count` steps."""
        batches = iter(self.train_loader)
        self._train(islice(batches, WARM_UP))
        yield
        self._train(islice(batches, count))
        yield

    def epoch(self) -> float:
        """Train for an epoch; give the test accuracy."""
        self._train(iter(self.train_loader))
        self.network.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in self.test_loader:
                correct += (self.network(images).argmax(dim=1) == labels).sum().item()
        return correct / len(self.test_set)  # type: ignore[arg-type]

    def _train(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        self.network.train()
        total, correct = 0.0, 0
        for images, labels in batches:
            self.optimizer.zero_grad()
            outputs = self.network(images)
            loss = self.criterion(outputs, labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(labels)
            correct += (outputs.argmax(dim=1) == labels).sum().item()


def _data_set(
    case: Case, arguments: argparse.Namespace, raw: RawData, split: str, transform: Callable[[Any], Tensor]
) -> Dataset[Any]:
    if case.data == "cifar10":
        part = raw.train if split == "train" else raw.test
        assert part is not None
        return Images(part.images, part.labels, transform)
    found: Dataset[Any] = getattr(datasets, case.data)(
        str(Path(arguments.root)), train=split == "train", transform=transform
    )
    return found


def _copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Give a network the tensors of another whose layers are the same in the same order."""
    given = [tensor for name, tensor in source.state_dict().items() if not name.startswith("normalization.")]
    taken = list(target.state_dict().values())
    if [tensor.shape for tensor in given] != [tensor.shape for tensor in taken]:
        raise SystemExit("the two sides' networks differ")
    with torch.no_grad():
        for mine, theirs in zip(taken, given, strict=True):
            mine.copy_(theirs)


def compare(name: str, case: Case, raw: RawData, arguments: argparse.Namespace) -> None:
    """Time the sides in turn and print medians and ratios."""
    ours = Ours(case, raw, seed=0)
    sides: dict[str, Ours | Plain] = {"gauntlet": ours}
    for workers in WORKERS:
        sides[f"loop, {workers} workers"] = Plain(case, arguments, raw, ours, workers=workers)
    count = min(arguments.steps or case.steps, ours.run.batches.steps - WARM_UP)
    wall: dict[str, list[float]] = {side: [] for side in sides}
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(arguments.repeats):
        for side, run in sides.items():
            used_s = _cpu_s()
            steps = run.steps(count)
            next(steps)
            start_s = time.perf_counter()
            next(steps)
            wall[side].append((time.perf_counter() - start_s) / count)
            # Workers are counted when they have ended, and with them the steps that warm up.
            del steps
            cpu[side].append((_cpu_s() - used_s) / (count + WARM_UP))
    print(
        f"{name}: {count} steps of {case.settings.batch_size}, medians of {arguments.repeats}, target {case.target:g}"
    )
    for kind, seconds in (("wall", wall), ("CPU", cpu)):
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        best = min(value for side, value in medians.items() if side != "gauntlet")
        for side, value in medians.items():
            rate = f", {1 / value:8.2f} steps/s" if kind == "wall" else ""
            print(f"  {side:15s} {kind:4s} {1000 * value:8.2f} ms a step{rate}")
        print(f"  {'ratio':15s} {kind:4s} {best / medians['gauntlet']:8.2f}")


def train(name: str, case: Case, raw: RawData, arguments: argparse.Namespace) -> None:
    """Train both sides for the same epochs and print the test accuracies."""
    accuracies: dict[str, list[float]] = {"gauntlet": [], "loop": []}
    seconds: dict[str, list[float]] = {"gauntlet": [], "loop": []}
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        ours = Ours(case, raw, seed=seed)
        sides: dict[str, Ours | Plain] = {
            "gauntlet": ours,
            "loop": Plain(case, arguments, raw, ours, workers=0),
        }
        last: dict[str, float] = {}
        for _ in range(arguments.epochs):
            for side, run in sides.items():
                start_s = time.perf_counter()
                last[side] = run.epoch()
                seconds[side].append(time.perf_counter() - start_s)
        for side, accuracy in last.items():
            accuracies[side].append(accuracy)
    print(f"{name}: test accuracy after {arguments.epochs} epochs, mean of {arguments.seeds} seeds")
    for side, values in accuracies.items():
        each = " ".join(f"{value:.4f}" for value in values)
        print(
            f"  {side:15s} {statistics.mean(values):.4f}   {statistics.median(seconds[side]):7.1f} s an epoch   {each}"
        )


def profile(ours: Ours, count: int) -> None:
    """Print where the time of our steps goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    steps = ours.steps(count)
    next(steps)
    with record(activities=[ProfilerActivity.CPU]) as found:
        next(steps)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


def _cpu_s() -> float:
    """Give the CPU seconds of this process and of the children that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


if __name__ == "__main__":
    main()
