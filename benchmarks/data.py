"""Speed and peak memory of `prepare`, of batches and of trainings from memory and from files, and of a DataLoader.

    .venv/bin/python benchmarks/data.py [--images 20000] [--side 64] [--source imagefolder] [--batches 100] [--folder F]
    .venv/bin/python benchmarks/data.py --train      # also trains a small network for one epoch

A set of made-up JPEG images is written to F, or to a temporary folder, and prepared there; an existing one is used
again. The DataLoader decodes the images of an ImageFolder, as most training scripts do, and stacks them to batches.
Batches of all sides are float32 in [0, 1] in random order. What is measured from memory is left out for images that
take more than a quarter of the free memory, as trainings leave them in their files. Memory is the largest resident
memory of all processes added up, and the part of it that is shared with no file or process: the pages of files that a
training maps are in the first, and the operating system drops them when others need memory.
"""

from __future__ import annotations

import argparse
import io
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gauntlet.config.variants import Training
from gauntlet.core.progress import progress
from gauntlet.core.tensors import tensor_digest
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.manifest import load_data_manifest
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.residence import resident
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.store import store
from gauntlet.learning.data.stored_images import open_split
from gauntlet.learning.models.build import build
from gauntlet.learning.training.loop import fit
from gauntlet.registry import Spec

CLASSES, DIFFERENT = 10, 2000
CPU = torch.device("cpu")
NETWORK = Spec("cnn", {"widths": [4, 4], "head": {"name": "softmax", "hidden": 8}})
LIMITS = {"file": 0, "memory": sys.maxsize}
"""Bytes of images that a training may hold in memory, by the place from which it reads them."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64, help="height and width of an image")
    parser.add_argument("--source", choices=["imagefolder", "parquet"], default="imagefolder")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=100, help="batches that are timed")
    parser.add_argument("--train", action="store_true", help="also train a small network for one epoch")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=["prepare", *LIMITS], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.part == "prepare":
        _prepare(arguments)
    elif arguments.part:
        _train(arguments)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            arguments.folder = arguments.folder or Path(temporary)
            measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Print what preparing and reading a set takes."""
    raw = arguments.folder / "raw"
    if not raw.exists():
        make_set(raw, arguments)
    prepared = run_part("prepare", arguments)
    print(f"prepare: {arguments.images / prepared.seconds:.0f} images/s, {prepared.memory}")
    split = open_split(arguments.folder / "stored", "train")
    print(f"training images: {len(split)}, {split.images.bytes >> 20} MiB")
    sides: dict[str, Iterable[Any]] = {
        "batches from the file": Batches(split, batch_size=arguments.batch_size, seed=0).epoch(0)
    }
    (loaded,) = resident([split], CPU)
    fits = isinstance(loaded, Split)
    if fits:
        sides["batches from memory"] = Batches(loaded, batch_size=arguments.batch_size, seed=0).epoch(0)
    if arguments.source == "imagefolder":
        images = datasets.ImageFolder(raw, transforms.ToTensor())
        for workers in (0, 2):
            loader = DataLoader(images, arguments.batch_size, shuffle=True, num_workers=workers)
            sides[f"DataLoader, {workers} workers"] = loader
    for name, batches in sides.items():
        print(f"{name}: {images_per_second(batches, arguments.batches):.0f} images/s")
    if arguments.train:
        del loaded, sides
        places = list(LIMITS) if fits else ["file"]
        trainings = {place: run_part(place, arguments) for place in places}
        for place, training in trainings.items():
            seconds, digest = training.output.split()
            print(f"epoch from {place}: {len(split) / float(seconds):.0f} images/s, {training.memory}, {digest}")
        if fits:
            print(f"digests of weights: {len({run.output.split()[1] for run in trainings.values()})}")


def images_per_second(batches: Iterable[Any], count: int) -> float:
    """Time `count` batches after the first one, or as many as there are."""
    images, start_s = 0, 0.0
    for number, (batch, _) in enumerate(batches):
        if number == 0:
            start_s = time.perf_counter()
            continue
        images += len(batch)
        # As a training does, read every value.
        batch.sum()
        if number == count:
            break
    return images / (time.perf_counter() - start_s)


def make_set(raw: Path, arguments: argparse.Namespace) -> None:
    """Write a set of made-up images, `DIFFERENT` different ones."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(min(arguments.images, DIFFERENT)):
        pixels = np.clip(random.normal(128, 50, (8, 8, 3)), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        image = Image.fromarray(pixels).resize((arguments.side, arguments.side), Image.Resampling.BICUBIC)
        image.save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    if arguments.source == "imagefolder":
        for number in range(arguments.images):
            path = raw / f"class{number % CLASSES}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents[number % len(contents)])
        return
    raw.mkdir(parents=True)
    images = pa.array([contents[number % len(contents)] for number in range(arguments.images)], pa.large_binary())
    labels = [number % CLASSES for number in range(arguments.images)]
    # One group of rows, which is the hardest to read in parts.
    table = pa.table({"image": images, "label": labels})
    pq.write_table(table, raw / "train.parquet", row_group_size=len(table), use_dictionary=False)


@dataclass(frozen=True)
class PartRun:
    """Run of a part of this script in processes of its own: what it printed, seconds, and peak memory in bytes."""

    output: str
    seconds: float
    peak: int
    private: int

    @property
    def memory(self) -> str:
        """Peak memory in words."""
        return f"{self.peak >> 20} MiB of memory, {self.private >> 20} MiB private"


def run_part(part: str, arguments: argparse.Namespace, *, every_s: float = 0.05) -> PartRun:
    """Run a part of this script, and measure the memory of its processes."""
    names = ("images", "side", "source", "batch_size", "folder")
    options = [f"--{name.replace('_', '-')}={getattr(arguments, name)}" for name in names]
    start_s = time.perf_counter()
    peak = private = 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([sys.executable, __file__, f"--part={part}", *options], stdout=output)
        while process.poll() is None:
            resident_bytes = own = 0
            try:
                for each in (child := psutil.Process(process.pid), *child.children(recursive=True)):
                    used = each.memory_info()
                    resident_bytes, own = resident_bytes + used.rss, own + used.rss - used.shared
            except psutil.Error:
                continue
            peak, private = max(peak, resident_bytes), max(private, own)
            time.sleep(every_s)
        seconds = time.perf_counter() - start_s
        if process.returncode:
            raise SystemExit(process.returncode)
        output.seek(0)
        return PartRun(output.read(), seconds, peak, private)


def _prepare(arguments: argparse.Namespace) -> None:
    data = select(Spec(arguments.source, {"root": str(arguments.folder / "raw")}))
    with progress("prepare", len(data), "images") as report:
        store(arguments.folder / "stored", data, report=report)


def _train(arguments: argparse.Namespace) -> None:
    """Train for one epoch; print the seconds, validation included, and the digest of the weights."""
    folder = arguments.folder / "stored"
    data = load_data_manifest(folder)
    splits = [open_split(folder, name) for name in ("train", "validation")]
    network = build(
        NETWORK, image_shape=data.image_shape, num_classes=data.num_classes, mean=data.mean, std=data.std, seed=0
    )
    start_s = time.perf_counter()
    train, validation = resident(splits, CPU, budget=LIMITS[arguments.part])
    settings = Training(epochs=1, batch_size=arguments.batch_size)
    fitted = fit(network, Spec("cross_entropy"), train, validation, settings=settings, seed=0, device=CPU)
    print(time.perf_counter() - start_s, tensor_digest(fitted.network.state_dict()))


if __name__ == "__main__":
    main()
