"""Images per second of `prepare` and of batches from memory and from files, and of a plain DataLoader; peak memory.

    .venv/bin/python benchmarks/data.py [--images 20000] [--side 64] [--source imagefolder] [--batches 100] [--folder F]

A set of made-up JPEG images is written to F, or to a temporary folder, and prepared there; an existing one is used
again. The DataLoader decodes the images of an ImageFolder, as most training scripts do, and stacks them to batches.
Batches of all sides are float32 in [0, 1] in random order. Memory is that of all processes added up, with the pages
that they share counted in each, and the part of it that is not shared with a file.
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
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from gauntlet.core.progress import progress
from gauntlet.learning.data.batches import Batches
from gauntlet.learning.data.prepare import select
from gauntlet.learning.data.store import open_split, store
from gauntlet.registry import Spec

CLASSES, DIFFERENT = 10, 2000


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64, help="height and width of an image")
    parser.add_argument("--source", choices=["imagefolder", "parquet"], default="imagefolder")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=100, help="batches that are timed")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if arguments.prepare:
        _prepare(arguments)
        return
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        measure(arguments)


def measure(arguments: argparse.Namespace) -> None:
    """Print what preparing and reading a set takes."""
    raw = arguments.folder / "raw"
    if not raw.exists():
        make_set(raw, arguments)
    names = ("images", "side", "source", "folder")
    options = [f"--{name}={getattr(arguments, name)}" for name in names]
    start_s = time.perf_counter()
    peak, private = peak_memory([sys.executable, __file__, "--prepare", *options])
    seconds = time.perf_counter() - start_s
    print(
        f"prepare: {arguments.images / seconds:.0f} images/s, {peak >> 20} MiB of memory, {private >> 20} MiB private"
    )
    split = open_split(arguments.folder / "stored", "train")
    sides: dict[str, Iterable[Any]] = {
        "batches from the file": Batches(split, batch_size=arguments.batch_size, seed=0).epoch(0),
        "batches from memory": Batches(split.load(), batch_size=arguments.batch_size, seed=0).epoch(0),
    }
    if arguments.source == "imagefolder":
        images = datasets.ImageFolder(raw, transforms.ToTensor())
        for workers in (0, 2):
            loader = DataLoader(images, arguments.batch_size, shuffle=True, num_workers=workers)
            sides[f"DataLoader, {workers} workers"] = loader
    for name, batches in sides.items():
        print(f"{name}: {images_per_second(batches, arguments.batches):.0f} images/s")


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


def peak_memory(command: list[str], *, every_s: float = 0.05) -> tuple[int, int]:
    """Run a command; return the largest resident memory of its processes together, in all and without shared pages."""
    process = subprocess.Popen(command)
    peak = private = 0
    while process.poll() is None:
        resident = own = 0
        try:
            for each in (child := psutil.Process(process.pid), *child.children(recursive=True)):
                used = each.memory_info()
                resident, own = resident + used.rss, own + used.rss - used.shared
        except psutil.Error:
            continue
        peak, private = max(peak, resident), max(private, own)
        time.sleep(every_s)
    if process.returncode:
        raise SystemExit(process.returncode)
    return peak, private


def _prepare(arguments: argparse.Namespace) -> None:
    data = select(Spec(arguments.source, {"root": str(arguments.folder / "raw")}))
    with progress("prepare", len(data), "images") as report:
        store(arguments.folder / "stored", data, report=report)


if __name__ == "__main__":
    main()
