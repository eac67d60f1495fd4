"""Accuracy of ResNets trained by Gauntlet and by a plain PyTorch loop of the same recipe.

    .venv/bin/python benchmarks/resnets.py --cifar10 FOLDER [--only NETWORK ...] [--seeds 2] [--epochs 3]
        [--images 5000] [--batch 100] [--test 2000]

`--cifar10` is the folder of CIFAR-10's parquet tables (JPEG). The networks are PreAct-ResNet-18 and WideResNet-28-2. Of
`--images` a tenth is for Gauntlet's validation, which selects nothing here; both sides train on the others.
The plain side has networks written out here, float32, `torch.optim.SGD` with momentum 0.9, weight decay 5e-4 and
Nesterov's step, and a one-cycle schedule; Gauntlet's side is `learning.training`. Both sides have the same initial
weights, seed by seed, and receive the same batches (order, crops and flips), since at this size the accuracy varies by
several points with the order of the images. It varies with rounding too, the more the higher the learning rate, so the
plain loop runs twice: with images and weights in PyTorch's default memory layout, and channels last, as Gauntlet
computes. Accuracies are those after the last epoch on `--test` test images, in per cent.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gauntlet.config.variants import Training
from gauntlet.learning.data.prepare import PreparedData, prepare
from gauntlet.learning.data.splits import Split, to_unit
from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.learning.training.run import TrainingRun
from gauntlet.registry import Spec

LR = 0.02
ONE_CYCLE = {"peak": 0.3, "start": 0.04, "end": 0.000004, "shape": "cosine"}


class Block(nn.Module):
    """Preactivation block of kuangliu's pytorch-cifar and of the code of TRADES."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map a feature map to the next."""
        out = functional.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        out = self.conv1(out)
        out = self.conv2(functional.relu(self.bn2(out)))
        out += shortcut
        return out


class PlainResNet(nn.Module):
    """Preactivation network of some groups of blocks; all but the first halve the map."""

    def __init__(self, stem: int, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, kernel_size=3, stride=1, padding=1, bias=False)
        self.blocks, planes = nn.Sequential(), stem
        for group, width in enumerate(widths):
            for number in range(blocks):
                self.blocks.append(Block(planes, width, 2 if group and not number else 1))
                planes = width
        self.bn, self.linear = nn.BatchNorm2d(planes), nn.Linear(planes, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        out = functional.relu(self.bn(self.blocks(self.conv1(x))))
        return self.linear(out.mean((2, 3)))  # type: ignore[no-any-return]


NETWORKS: Mapping[str, tuple[Spec, Callable[[], nn.Module]]] = MappingProxyType(
    {
        "preact_resnet18": (
            Spec("resnet", {"depth": 18, "preactivation": True}),
            lambda: PlainResNet(64, (64, 128, 256, 512), 2),
        ),
        "wide_resnet28_2": (Spec("wide_resnet", {"depth": 28, "width": 2}), lambda: PlainResNet(16, (32, 64, 128), 4)),
    }
)


def main() -> None:
    """Train both sides of each network, and print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, type=Path, help="folder of CIFAR-10's parquet tables")
    parser.add_argument("--only", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=5000, help="number of training images")
    parser.add_argument("--batch", type=int, default=100, help="images per step")
    parser.add_argument("--test", type=int, default=2000, help="number of test images")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    limit = {"train": arguments.images, "test": arguments.test}
    data = prepare(Spec("parquet", {"root": str(arguments.cifar10)}), validation=0.1, limit=limit)
    train, test = data.splits["train"], data.splits["test"]
    settings = Training(
        epochs=arguments.epochs,
        batch_size=arguments.batch,
        optimizer=Spec("sgd", {"lr": LR, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}),
        schedule=Spec("one_cycle", ONE_CYCLE),
        augmentation=[Spec("shift", {"pixels": 4}), Spec("flip")],
        keep="last",
    )
    steps = -(-len(train) // arguments.batch)
    sizes = f"{len(train)} training images, {len(test)} test images, {arguments.epochs} epochs of {steps} steps"
    print(f"torch {torch.__version__}, {sizes}")
    for name in arguments.only:
        for seed in range(arguments.seeds):
            start_s = time.process_time()
            default, channels_last, own = compare(*NETWORKS[name], data, settings, seed)
            seconds = time.process_time() - start_s
            line = f"{name} seed {seed}: plain loop {100 * default:.2f}, channels last {100 * channels_last:.2f}"
            print(f"{line}, Gauntlet {100 * own:.2f} ({seconds:.0f} s of CPU)", flush=True)


def compare(
    spec: Spec, plain: Callable[[], nn.Module], data: PreparedData, settings: Training, seed: int
) -> tuple[float, float, float]:
    """Return the test accuracies of the plain loop in both layouts and of Gauntlet, from the same initial weights."""
    train, validation, test = (data.splits[name] for name in ("train", "validation", "test"))
    network = build(spec, image_shape=train.image_shape, num_classes=10, mean=data.mean, std=data.std, seed=seed)
    references = [plain().to(memory_format=layout) for layout in (torch.contiguous_format, torch.channels_last)]
    for reference in references:
        copy_weights(network, reference)
    run = TrainingRun(network, Spec("cross_entropy"), train, validation, settings=settings, seed=seed)
    center, scale = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (data.mean, data.std))

    def normalize(images: Tensor) -> Tensor:
        return (images - center) / scale

    for reference in references:
        train_plainly(reference, run, settings, normalize)
    while not run.finished:
        run.run_epoch()
    default, channels_last = (accuracy(reference.eval(), test, normalize) for reference in references)
    return default, channels_last, accuracy(run.result().network, test, lambda images: images)


def copy_weights(source: Network, target: nn.Module) -> None:
    """Copy convolutions, dense layers and batch normalizations in the order of their computation."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)

    def layers(module: nn.Module) -> dict[type, list[Any]]:
        return {kind: [layer for layer in module.modules() if type(layer) is kind] for kind in kinds}

    for kind, targets in layers(target).items():
        for one, other in zip(layers(source)[kind], targets, strict=True):
            other.load_state_dict(one.state_dict())


def train_plainly(
    network: nn.Module, run: TrainingRun, settings: Training, normalize: Callable[[Tensor], Tensor]
) -> None:
    """Train as a script does, on the batches of a run that has not started."""
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    total = settings.epochs * run.batches.steps
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: one_cycle((step + 1) / total))
    network.train()
    for epoch in range(settings.epochs):
        for images, labels in run.batches.epoch(epoch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(normalize(images)), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()


def one_cycle(share: float) -> float:
    """Return the factor of the learning rate after a share of the steps: a rise from 1/25 up to 0.3, then a fall."""
    if share < 0.3:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * share / 0.3)) / 2
    return 4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * (share - 0.3) / 0.7)) / 2


@torch.no_grad()
def accuracy(network: nn.Module, test: Split, normalize: Callable[[Tensor], Tensor]) -> float:
    """Return the accuracy on a split."""
    correct = 0
    for images, labels in zip(test.images.split(500), test.labels.split(500), strict=True):
        correct += int((network(normalize(to_unit(images))).argmax(1) == labels).sum())
    return correct / len(test)


if __name__ == "__main__":
    main()
