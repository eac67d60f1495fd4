"""CPU time of a training step in float32 and in bfloat16, compared with the usual loop in plain PyTorch.

    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER [--only CASE ...] [--repeats 5] [--steps N]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --epochs 4 --seeds 3 [--images 10000]
    .venv/bin/python benchmarks/training.py --root FOLDER --cifar10 FOLDER --profile CASE [--precision bfloat16]

`--root` is the folder of MNIST and Fashion-MNIST as torchvision stores them, `--cifar10` that of CIFAR-10's parquet
tables (JPEG). The plain loop is that of the source documents, in PyTorch and float32: a data set whose images pass
ToTensor and Normalize one by one, a DataLoader, `.item()` of loss and accuracy in every step; for HKR the layers and
loss of deel-torchlip. It has no worker processes: they would add to its CPU time. Gauntlet's side is
`learning.training` as in the stage `train`: uint8 images on the device, seeded batches and augmentation, metrics read
once per epoch. All sides have the same network, initial weights and optimizer.

Each side has a process of its own with one thread, and they alternate, `repeats` times: each starts an epoch, runs a
few warm-up steps (3, or `steps` if less), then `steps` measured ones, including data loading. The medians of CPU time
per step are printed, and the medians of the ratios of the rounds. `--epochs` trains all sides instead, on `--images`
training images (default all), and prints the test accuracies after the last epoch for `--seeds` initializations.

Source documents: FastEstimator apphub, "Adversarial Robustness with Error Correcting Codes (and Hinge Loss)"
(lenet_cifar10); Le 2019, journal of logic-inspired networks (mnist_cnn); deel-torchlip, "Example 4: HKR multiclass and
fooling" (hkr_fashion_mnist). users_sequential is a plain `nn.Sequential`, given to Gauntlet by its import path.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

from gauntlet.config.variants import Training
from gauntlet.core.memory import keep_freed_memory
from gauntlet.learning.data.raw_data import RawData
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.statistics import channel_statistics, level_counts
from gauntlet.learning.models.build import build
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import AUGMENTATIONS, MODELS, SOURCES, Registry, Spec

WARM_UP = 3
PRECISIONS = ("float32", "bfloat16")
SIDES = ("loop", *PRECISIONS)


@dataclass(frozen=True)
class Case:
    """A training of a source document, by Gauntlet's components and in plain PyTorch.

    `layers` builds the plain network, into which Gauntlet's weights are copied in order. The plain loop applies
    `transform` to a PIL image before ToTensor, and `after` between ToTensor and Normalize. `targets` are the ratios to
    reach in float32 and in bfloat16.
    """

    targets: tuple[float, float]
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


class Maxout(nn.Module):
    """Maximum of each four adjacent channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 4 C, ...)` to `(B, C, ...)`."""
        return x.unflatten(1, (-1, 4)).amax(2)


def maxout_cnn() -> nn.Module:
    """Build the journal's network for MNIST with maxout folding."""
    return nn.Sequential(
        *(nn.Conv2d(1, 64, 5, padding=2), Maxout(), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 128, 5, padding=2), Maxout(), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 40), Maxout()),
    )


def users_cnn() -> nn.Module:
    """Build a network as users write it, with batch normalization and dropout."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.25), nn.Linear(3136, 10)),
    )


class UsersCnn(nn.Sequential):
    """The same network as a class, for its import path."""

    def __init__(self) -> None:
        super().__init__(*users_cnn())


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
        *((2, 3), 60, "cifar10", Spec("lenet"), Spec("cross_entropy")),
        *(Training(batch_size=50), lenet, nn.CrossEntropyLoss),
    ),
    "mnist_cnn": Case(
        *((2, 3), 60, "MNIST", Spec("mnist_cnn"), Spec("cross_entropy"), _AMSGRAD, mnist_cnn, nn.CrossEntropyLoss),
        adam={"amsgrad": True},
    ),
    "mnist_cnn_maxout": Case(
        *((1.3, 1.3), 30, "MNIST", Spec("mnist_cnn", {"folding": {"name": "maxout"}}), Spec("cross_entropy"), _AMSGRAD),
        *(maxout_cnn, nn.CrossEntropyLoss),
        adam={"amsgrad": True},
    ),
    "users_sequential": Case(
        *((2, 3), 60, "MNIST", Spec(f"{Path(__file__).stem}:UsersCnn"), Spec("cross_entropy")),
        *(Training(batch_size=64), users_cnn, nn.CrossEntropyLoss),
    ),
    "mnist_cnn_augmented": Case(
        *((2, 3), 60, "MNIST", Spec("mnist_cnn"), Spec("cross_entropy"), _AUGMENTED, mnist_cnn, nn.CrossEntropyLoss),
        adam={"amsgrad": True},
        **_JOURNAL,
    ),
    "hkr_fashion_mnist": Case(
        *((3, 3), 4, "FashionMNIST", Spec("lipschitz_cnn"), Spec("hkr")),
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
    parser.add_argument("--images", type=int, help="number of training images, with --epochs")
    parser.add_argument("--profile", choices=list(CASES), help="profile Gauntlet's steps instead of comparing")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="precision to profile")
    arguments = parser.parse_args()
    _set_up_process()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in [arguments.profile] if arguments.profile else arguments.only:
        case = CASES[name]
        missing = _unregistered(case) or ("--cifar10" if case.data == "cifar10" and not arguments.cifar10 else "")
        if missing:
            print(f"{name}: skipped, {missing} is missing")
        elif arguments.profile:
            keep_freed_memory()
            gauntlet = GauntletTraining(case, load(case, arguments), seed=0, precision=arguments.precision)
            profile(gauntlet, arguments.steps or case.steps)
        elif arguments.epochs:
            train(name, case, load(case, arguments), arguments)
        else:
            compare(name, case, arguments)


def _set_up_process() -> None:
    warnings.filterwarnings("ignore", message="Sequential model contains a layer which is not a Lipschitz layer")
    torch.set_num_threads(1)


def _unregistered(case: Case) -> str:
    """Return the first of a case's components that is not registered, or an empty string."""
    components: list[tuple[Registry, Spec]] = [(MODELS, case.model)]
    components += [(AUGMENTATIONS, spec) for spec in case.settings.augmentation]
    named = [(registry, spec) for registry, spec in components if ":" not in spec.name]
    unknown = [f"{registry.kind} `{spec.name}`" for registry, spec in named if spec.name not in registry.names()]
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

    def __init__(self, case: Case, raw: RawData, *, seed: int, precision: str = "float32") -> None:
        assert raw.test is not None
        settings = case.settings.model_copy(update={"precision": precision})
        mean, std = channel_statistics(level_counts(raw.train.images))
        shape = raw.train.image_shape
        network = build(case.model, image_shape=shape, num_classes=10, mean=mean, std=std, seed=seed)
        self.run = TrainingRun(network, case.loss, raw.train, raw.test, settings=settings, seed=seed)
        self.start = self.run.state()

    def steps(self, count: int) -> Iterator[None]:
        """Start an epoch; the first `next` runs the warm-up steps, the second one `count` steps."""
        self.run.restore(self.start)
        self.run.run_steps(min(WARM_UP, count))
        yield
        self.run.run_steps(count)
        yield

    def epoch(self) -> None:
        """Train for an epoch, and measure the test accuracy after it."""
        self.run.run_epoch()

    def accuracy(self) -> float:
        """Return the test accuracy."""
        return self.run.history[-1].validation_accuracy or 0.0


class PlainLoop:
    """The documents' training loop, with the initial weights of Gauntlet's network."""

    def __init__(
        self, case: Case, arguments: argparse.Namespace, raw: RawData, gauntlet: GauntletTraining, *, images: int = 0
    ) -> None:
        mean, std = channel_statistics(level_counts(raw.train.images))
        normalize = [transforms.Normalize(mean, std)] if case.normalize else []
        test_transform = transforms.Compose([transforms.ToTensor(), *normalize])
        train_transform = transforms.Compose([*case.transform, transforms.ToTensor(), *case.after, *normalize])
        self.train_set, self.test_set = (
            _data_set(case, arguments, raw, split, transform)
            for split, transform in (("train", train_transform), ("test", test_transform))
        )
        size = case.settings.batch_size
        subset = Subset(self.train_set, range(images)) if images else self.train_set
        self.train_loader = DataLoader(subset, size, shuffle=True)
        self.test_loader = DataLoader(self.test_set, size)
        self.network, self.criterion = case.layers(), case.criterion()
        _copy_parameters(gauntlet.run.network, self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), **{"lr": 1e-3, **case.adam})

    def steps(self, count: int) -> Iterator[None]:
        """Start an epoch; the first `next` runs the warm-up steps, the second one `count` steps."""
        batches = iter(self.train_loader)
        self._train(islice(batches, min(WARM_UP, count)))
        yield
        self._train(islice(batches, count))
        yield

    def epoch(self) -> None:
        """Train for an epoch."""
        self._train(iter(self.train_loader))

    def accuracy(self) -> float:
        """Return the test accuracy."""
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


def compare(name: str, case: Case, arguments: argparse.Namespace) -> None:
    """Time the sides alternately, and print medians and ratios."""
    count = arguments.steps or case.steps
    spawn = multiprocessing.get_context("spawn")
    sides: dict[str, Connection] = {}
    for side in SIDES:
        sides[side], end = spawn.Pipe()
        spawn.Process(target=serve, args=(end, name, side, arguments), daemon=True).start()
        end.close()
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(arguments.repeats):
        for side, connection in sides.items():
            connection.send(count)
            seconds[side].append(connection.recv())
    for connection in sides.values():
        connection.send(0)
    print(f"{name}: {count} steps of {case.settings.batch_size} images, medians of {arguments.repeats} rounds")
    for side, values in seconds.items():
        line = f"  {side:10s} {1000 * statistics.median(values):8.2f} ms of CPU per step"
        if side in PRECISIONS:
            ratios = [loop / own for loop, own in zip(seconds["loop"], values, strict=True)]
            target = case.targets[PRECISIONS.index(side)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            line += f"   ratio {statistics.median(ratios):5.2f} ({spread}), target {target:g}"
        print(line, flush=True)


def serve(connection: Connection, name: str, side: str, arguments: argparse.Namespace) -> None:
    """Run as many steps of one side as a message says, and answer with the CPU seconds per step; end at 0."""
    _set_up_process()
    case = CASES[name]
    raw = load(case, arguments)
    gauntlet = GauntletTraining(case, raw, seed=0, precision="float32" if side == "loop" else side)
    if side != "loop":
        keep_freed_memory()
    run = PlainLoop(case, arguments, raw, gauntlet) if side == "loop" else gauntlet
    while count := connection.recv():
        steps = run.steps(count)
        next(steps)
        start_s = time.process_time()
        next(steps)
        connection.send((time.process_time() - start_s) / count)


def train(name: str, case: Case, raw: RawData, arguments: argparse.Namespace) -> None:
    """Train all sides for the same number of epochs, and print the test accuracies."""
    images = min(arguments.images or len(raw.train), len(raw.train))
    part = Split(raw.train.images[:images], raw.train.labels[:images])
    accuracies: dict[str, list[float]] = {side: [] for side in SIDES}
    keep_freed_memory()
    for seed in range(arguments.seeds):
        torch.manual_seed(seed)
        sides: dict[str, GauntletTraining | PlainLoop] = {
            precision: GauntletTraining(case, replace(raw, train=part), seed=seed, precision=precision)
            for precision in PRECISIONS
        }
        start = GauntletTraining(case, raw, seed=seed)
        sides["loop"] = PlainLoop(case, arguments, raw, start, images=images)
        for side, run in sides.items():
            for _ in range(arguments.epochs):
                run.epoch()
            accuracies[side].append(run.accuracy())
    print(f"{name}: test accuracy after {arguments.epochs} epochs of {images} images, {arguments.seeds} seeds")
    for side, values in accuracies.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        each = " ".join(f"{value:.4f}" for value in values)
        print(f"  {side:10s} mean {statistics.mean(values):.4f}, standard deviation {spread:.4f}   {each}", flush=True)


def profile(gauntlet: GauntletTraining, count: int) -> None:
    """Print a profile of Gauntlet's steps."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    steps = gauntlet.steps(count)
    next(steps)
    with record(activities=[ProfilerActivity.CPU]) as recorded:
        next(steps)
    print(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


if __name__ == "__main__":
    main()
