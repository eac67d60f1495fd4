"""Time of a training step, compared with the loops of the source documents in plain PyTorch.

    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER [--only CASE ...] [--repeats 5] [--steps N]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --epochs 5 [--seeds 3]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --profile CASE

`--root` is the folder of MNIST and Fashion-MNIST as torchvision stores them, `--cifar10` that of CIFAR-10's parquet
tables (JPEG). The plain loop follows the documents, in PyTorch: a data set whose images pass ToTensor and Normalize one
by one, a DataLoader, `.item()` of loss and accuracy in every step; for HKR the layers and loss of deel-torchlip. It
runs without worker processes and with two, and the faster one counts. Gauntlet's side is `learning.training` as in the
stage `train`: uint8 images on the device, seeded batches and augmentation, metrics read once per epoch. Both sides have
the same network, initial weights, optimizer and number of threads, in one process.

The sides alternate, `repeats` times: each starts an epoch, runs a few warm-up steps, then `steps` measured ones,
including data loading. The medians of wall and CPU time per step are printed; on a busy machine CPU time is more
reliable. `--epochs` trains both sides on the whole training split instead, and prints the test accuracy after the last
epoch, averaged over `--seeds` initializations, and the seconds per epoch including the test.

Source documents: FastEstimator apphub, "Adversarial Robustness with Error Correcting Codes (and Hinge Loss)"
(lenet_cifar10); Le 2019, journal of logic-inspired networks (mnist_cnn); deel-torchlip, "Example 4: HKR multiclass and
fooling" (hkr_fashion_mnist).
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
    """A training of a source document, by Gauntlet's components and in plain PyTorch.

    `layers` builds the plain network, into which Gauntlet's weights are copied in order. The plain loop applies
    `transform` to a PIL image before ToTensor, and `after` between ToTensor and Normalize.
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
    """CIFAR-10 as in torchvision: an array of uint8, of which each access makes a PIL image."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[Any], Tensor]) -> None:
        self.images, self.labels = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist()
        self.transform, self.to_pil = transform, transforms.ToPILImage()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.to_pil(self.images[index])), self.labels[index]


class OneHotHkr(nn.Module):
    """deel-torchlip's loss of one-hot targets, as in its example, with the scale of the current version."""

    def __init__(self) -> None:
        super().__init__()
        from deel import torchlip

        self.loss = torchlip.HKRMulticlassLoss(alpha=100 / 101, min_margin=0.5)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss `()`; its KR term is computed as well, since the example prints it in every step."""
        from deel import torchlip

        one_hot = nn.functional.one_hot(target, num_classes=10)
        torchlip.functional.kr_loss(output.detach(), one_hot).mean().item()
        loss: Tensor = self.loss(output, one_hot)
        return loss


def lenet() -> nn.Module:
    """Build the LeNet of FastEstimator."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def mnist_cnn() -> nn.Module:
    """Build the journal's network for MNIST."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 10)),
    )


def torchlip_cnn() -> nn.Module:
    """Build the network of the HKR example from deel-torchlip's layers."""
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
    """Time or train both sides of each case, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of MNIST and Fashion-MNIST")
    parser.add_argument("--cifar10", help="folder of CIFAR-10's parquet tables")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="number of measured steps; the default depends on the case")
    parser.add_argument("--epochs", type=int, help="train for this number of epochs and print accuracies instead")
    parser.add_argument("--seeds", type=int, default=1, help="number of initializations, with --epochs")
    parser.add_argument("--profile", choices=list(CASES), help="profile Gauntlet's steps instead of comparing")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="Sequential model contains a layer which is not a Lipschitz layer")
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in [arguments.profile] if arguments.profile else arguments.only:
        case = CASES[name]
        missing = _unregistered(case) or ("--cifar10" if case.data == "cifar10" and not arguments.cifar10 else "")
        if missing:
            print(f"{name}: skipped, {missing} is missing")
        elif arguments.profile:
            profile(GauntletTraining(case, load(case, arguments), seed=0), arguments.steps or case.steps)
        elif arguments.epochs:
            train(name, case, load(case, arguments), arguments)
        else:
            compare(name, case, load(case, arguments), arguments)


def _unregistered(case: Case) -> str:
    """Return the first of a case's components that is not registered, or an empty string."""
    components: list[tuple[Registry, Spec]] = [(MODELS, case.model)]
    components += [(AUGMENTATIONS, spec) for spec in case.settings.augmentation]
    unknown = [f"{registry.kind} `{spec.name}`" for registry, spec in components if spec.name not in registry.names()]
    return unknown[0] if unknown else ""


def load(case: Case, arguments: argparse.Namespace) -> RawData:
    """Load a case's training and test images."""
    spec = Spec("torchvision", {"name": case.data, "root": arguments.root, "download": False})
    if case.data == "cifar10":
        spec = Spec("parquet", {"root": arguments.cifar10})
    raw: RawData = SOURCES.load(spec.name)(**spec.options)
    return raw


class GauntletTraining:
    """Training with Gauntlet; the test split is used for validation, as in the HKR example."""

    def __init__(self, case: Case, raw: RawData, *, seed: int) -> None:
        assert raw.test is not None
        mean, std = channel_statistics(raw.train.images)
        shape = raw.train.image_shape
        network = build(case.model, image_shape=shape, num_classes=10, mean=mean, std=std, seed=seed)
        self.run = TrainingRun(network, case.loss, raw.train, raw.test, settings=case.settings, seed=seed)
        self.start = self.run.state()

    def steps(self, count: int) -> Iterator[None]:
        """Start an epoch; the first `next` runs the warm-up steps, the second one `count` steps."""
        self.run.restore(self.start)
        self.run.run_steps(WARM_UP)
        yield
        self.run.run_steps(count)
        yield

    def epoch(self) -> float:
        """Train for an epoch and return the test accuracy."""
        return self.run.run_epoch().validation_accuracy or 0.0


class PlainLoop:
    """The documents' training loop, with the initial weights of Gauntlet's network."""

    def __init__(
        self, case: Case, arguments: argparse.Namespace, raw: RawData, gauntlet: GauntletTraining, *, workers: int
    ) -> None:
        mean, std = channel_statistics(raw.train.images)
        normalize = [transforms.Normalize(mean, std)] if case.normalize else []
        test_transform = transforms.Compose([transforms.ToTensor(), *normalize])
        train_transform = transforms.Compose([*case.transform, transforms.ToTensor(), *case.after, *normalize])
        self.train_set, self.test_set = (
            _data_set(case, arguments, raw, split, transform)
            for split, transform in (("train", train_transform), ("test", test_transform))
        )
        size = case.settings.batch_size
        self.train_loader = DataLoader(self.train_set, size, shuffle=True, num_workers=workers)
        self.test_loader = DataLoader(self.test_set, size, num_workers=workers)
        self.network, self.criterion = case.layers(), case.criterion()
        _copy_parameters(gauntlet.run.network, self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), **{"lr": 1e-3, **case.adam})

    def steps(self, count: int) -> Iterator[None]:
        """Start an epoch; the first `next` runs the warm-up steps, the second one `count` steps."""
        batches = iter(self.train_loader)
        self._train(islice(batches, WARM_UP))
        yield
        self._train(islice(batches, count))
        yield

    def epoch(self) -> float:
        """Train for an epoch and return the test accuracy."""
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
    data: Dataset[Any] = getattr(datasets, case.data)(
        str(Path(arguments.root)), train=split == "train", transform=transform
    )
    return data


def _copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Copy the tensors of a network to another one with the same layers in the same order."""
    sources = [tensor for name, tensor in source.state_dict().items() if not name.startswith("normalization.")]
    targets = list(target.state_dict().values())
    if [tensor.shape for tensor in sources] != [tensor.shape for tensor in targets]:
        raise SystemExit("the networks of the two sides differ")
    with torch.no_grad():
        for target_tensor, source_tensor in zip(targets, sources, strict=True):
            target_tensor.copy_(source_tensor)


def compare(name: str, case: Case, raw: RawData, arguments: argparse.Namespace) -> None:
    """Time both sides alternately, and print medians and ratios."""
    gauntlet = GauntletTraining(case, raw, seed=0)
    sides: dict[str, GauntletTraining | PlainLoop] = {"gauntlet": gauntlet}
    for workers in WORKERS:
        sides[f"loop, {workers} workers"] = PlainLoop(case, arguments, raw, gauntlet, workers=workers)
    count = min(arguments.steps or case.steps, gauntlet.run.batches.steps - WARM_UP)
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
            # Workers are counted once they have ended, and with them the warm-up steps.
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
            print(f"  {side:15s} {kind:4s} {1000 * value:8.2f} ms per step{rate}")
        print(f"  {'ratio':15s} {kind:4s} {best / medians['gauntlet']:8.2f}")


def train(name: str, case: Case, raw: RawData, arguments: argparse.Namespace) -> None:
    """Train both sides for the same number of epochs, and print the test accuracies."""
    accuracies: dict[str, list[float]] = {"gauntlet": [], "loop": []}
    seconds: dict[str, list[float]] = {"gauntlet": [], "loop": []}
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        gauntlet = GauntletTraining(case, raw, seed=seed)
        sides: dict[str, GauntletTraining | PlainLoop] = {
            "gauntlet": gauntlet,
            "loop": PlainLoop(case, arguments, raw, gauntlet, workers=0),
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
            f"  {side:15s} {statistics.mean(values):.4f}   {statistics.median(seconds[side]):7.1f} s per epoch   {each}"
        )


def profile(gauntlet: GauntletTraining, count: int) -> None:
    """Print a profile of Gauntlet's steps."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    steps = gauntlet.steps(count)
    next(steps)
    with record(activities=[ProfilerActivity.CPU]) as recorded:
        next(steps)
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
