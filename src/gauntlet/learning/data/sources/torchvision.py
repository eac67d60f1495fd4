"""Classification data sets of torchvision, downloaded or already on disk."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gauntlet.core.errors import InputError, first_line, nearest, shortened
from gauntlet.learning.data.blocks import Block
from gauntlet.learning.data.decoding import to_array
from gauntlet.learning.data.encoded import EncodedSplit
from gauntlet.learning.data.raw_data import RawData, SourceSplit
from gauntlet.learning.data.splits import Split
from gauntlet.learning.data.visible import expand
from gauntlet.registry import SOURCES, PositiveInt

_TARGETS = ("targets", "labels", "_labels", "y")
"""Attributes that hold the labels of all images, so that these need not be decoded for them."""
_IMAGES_AT_ONCE = 16
_SPLIT_NAMES = {"train": ("train",), "validation": ("val", "valid"), "test": ("test",)}


@SOURCES.register(
    "torchvision",
    folder="root",
    classes={
        "CIFAR10": 10,
        "CIFAR100": 100,
        "FashionMNIST": 10,
        "GTSRB": 43,
        "KMNIST": 10,
        "MNIST": 10,
        "QMNIST": 10,
        "STL10": 10,
        "SVHN": 10,
        "USPS": 10,
    },
    side={
        "CIFAR10": 32,
        "CIFAR100": 32,
        "EMNIST": 28,
        "FashionMNIST": 28,
        "KMNIST": 28,
        "MNIST": 28,
        "QMNIST": 28,
        "STL10": 96,
        "SVHN": 32,
        "USPS": 16,
    },
    channels={
        "CIFAR10": 3,
        "CIFAR100": 3,
        "EMNIST": 1,
        "FashionMNIST": 1,
        "GTSRB": 3,
        "KMNIST": 1,
        "MNIST": 1,
        "QMNIST": 1,
        "STL10": 3,
        "SVHN": 3,
        "USPS": 1,
    },
    source="the classification data sets of torchvision",
)
def torchvision(
    *,
    name: str,
    root: str = "downloads",
    download: bool = False,
    subset: str | None = None,
    size: PositiveInt | None = None,
) -> RawData:
    """Read the data set `name` (its class name, such as MNIST or CIFAR10) from the folder `root`.

    With `download` missing files are downloaded. `subset` selects a variant of a data set that has several (EMNIST:
    letters, digits, …). With `size` the shorter side is scaled to that many pixels and the center square is cropped,
    for data sets whose images differ in size. Raises InputError for a data set that is unknown or not for
    classification, and, naming the path, if files are missing or damaged.
    """
    from torchvision import datasets

    root = str(expand(root))
    known = [known_name for known_name in datasets.__all__ if "root" in _parameters(getattr(datasets, known_name))]
    if name not in known:
        raise InputError(f"torchvision has no image data set '{name}'", where="name", remedy=nearest(name, known))
    factory = getattr(datasets, name)
    opened: dict[str, Any] = {}
    for split, arguments in _split_arguments(factory, subset).items():
        data = _open_split(factory, root, download, arguments, optional=split == "validation")
        if data is not None:
            opened[split] = data
    splits = {split: _read(data, name, size) for split, data in opened.items()}
    classes, splits = _numbered_alike(splits, {split: _class_names(data) for split, data in opened.items()}, name)
    return RawData(splits["train"], splits.get("test"), splits.get("validation"), classes)


def _parameters(factory: Any) -> list[str]:
    return list(inspect.signature(factory).parameters) if inspect.isclass(factory) else []


def _split_arguments(factory: Any, subset: str | None) -> dict[str, dict[str, Any]]:
    """Return the arguments with which each split of a data set is opened."""
    own = _parameters(factory)
    if "train" in _all_parameters(factory):
        extra = {"split": subset} if subset is not None else {}
        return {"train": {"train": True, **extra}, "test": {"train": False, **extra}}
    if subset is not None:
        raise InputError(f"{factory.__name__} has no variants", where="subset", remedy="leave `subset:` out")
    if "split" not in own:
        return {"train": {}}
    return {split: {"split": names} for split, names in _SPLIT_NAMES.items()}


def _open_split(factory: Any, root: str, download: bool, arguments: dict[str, Any], *, optional: bool) -> Any:
    """Open one split; return None if it is optional and the data set does not have it."""
    names = arguments.get("split")
    if isinstance(names, tuple):
        for name in names:
            try:
                return _construct(factory, root, download, {**arguments, "split": name})
            except ValueError:
                continue
        if optional or names == _SPLIT_NAMES["test"]:
            return None
        raise InputError(f"{factory.__name__} has no split 'train'", where="name", remedy="use another source")
    try:
        return _construct(factory, root, download, arguments)
    except ValueError as error:
        raise InputError(f"{factory.__name__}: {first_line(error)}", where="subset") from error


def _construct(factory: Any, root: str, download: bool, arguments: dict[str, Any]) -> Any:
    options = {"download": download} if "download" in _all_parameters(factory) else {}
    try:
        return factory(root=root, **arguments, **options)
    except TypeError as error:
        remedy = "set `subset:`" if "split" in str(error) else "use another source"
        raise InputError(
            f"{factory.__name__} cannot be opened: {first_line(error)}", where="name", remedy=remedy
        ) from error
    except (RuntimeError, OSError, EOFError) as error:
        path = _expected_path(factory, root)
        if download:
            problem = f"{factory.__name__} could not be downloaded ({first_line(error)})"
            remedy = "put its files there by hand, and set `download: false`"
            raise InputError(problem, where=path, remedy=remedy) from error
        problem = f"the files of {factory.__name__} are missing or damaged"
        remedy = "put them there, set `root:` to the folder that contains them, or set `download: true`"
        raise InputError(problem, where=path, remedy=remedy) from error


def _all_parameters(factory: Any) -> set[str]:
    return {parameter for owner in factory.__mro__ if owner is not object for parameter in _parameters(owner)}


def _expected_path(factory: Any, root: str) -> str:
    """Return the folder, or the files, from which a data set is read."""
    from torchvision import datasets

    if issubclass(factory, datasets.MNIST):
        files = [Path(url).stem for url, _ in getattr(factory, "resources", [])]
        return str(Path(root, factory.__name__, "raw", f"{{{','.join(files)}}}" if files else ""))
    return str(Path(root, str(getattr(factory, "base_folder", ""))))


def _class_names(data: Any) -> tuple[tuple[str, ...], ...]:
    """Return the names of each class of a split: one, or several synonyms (ImageNet); empty if there are none."""
    names = getattr(data, "classes", None) or ()
    return tuple((name,) if isinstance(name, str) else tuple(map(str, name)) for name in names)


def _numbered_alike(
    splits: dict[str, SourceSplit], names: dict[str, tuple[tuple[str, ...], ...]], where: str
) -> tuple[tuple[str, ...], dict[str, SourceSplit]]:
    """Return the class names, and the splits with the labels of the training split.

    Some data sets number the classes of each split by its folders. Without names the labels that occur are the classes.
    Raises InputError if another split has a class that training lacks.
    """
    train = names["train"]
    if not train:
        values = torch.cat([split.labels for split in splits.values()]).unique()
        numbered = {name: split.with_labels(torch.searchsorted(values, split.labels)) for name, split in splits.items()}
        return tuple(str(value) for value in values.tolist()), numbered
    numbers = {name: number for number, name in enumerate(train)}
    for split, own in names.items():
        if not own or own == train:
            continue
        unknown = sorted(set(own) - set(train))
        if not unknown and len(numbers) < len(train):
            twice = sorted({name[0] for name in train if train.count(name) > 1})
            problem = f"several classes have one name: {shortened(twice)}"
            raise InputError(problem, where=where, remedy="rename the classes")
        if unknown:
            problem = f"the {split} split has classes that training lacks: {shortened(name[0] for name in unknown)}"
            remedy = f"the training classes are {shortened(name[0] for name in train)}"
            raise InputError(problem, where=where, remedy=remedy)
        labels = torch.tensor([numbers[name] for name in own])[splits[split].labels]
        splits = {**splits, split: splits[split].with_labels(labels)}
    return tuple(name[0] for name in train), splits


def _read(data: Any, name: str, size: int | None) -> SourceSplit:
    from torchvision import datasets

    if size is None and isinstance(data, datasets.MNIST) and data.targets.ndim == 1:
        return Split(data.data[:, None].contiguous(), data.targets.long())
    if size is None and isinstance(data, datasets.CIFAR10):
        images = torch.from_numpy(np.ascontiguousarray(data.data.transpose(0, 3, 1, 2)))
        return Split(images, torch.tensor(data.targets, dtype=torch.int64))
    stated = next((labels for key in _TARGETS if (labels := getattr(data, key, None)) is not None), None)
    # QMNIST states eight numbers per image, of which one is the class.
    if stated is None or len(stated) != len(data) or getattr(stated, "ndim", 1) != 1:
        stated = [_item(data, position)[1] for position in range(len(data))]
    try:
        labels = [int(label) for label in stated]
    except (TypeError, ValueError) as error:
        problem = f"{name} is not for classification: its targets are not class numbers"
        raise InputError(problem, where="name") from error

    def blocks() -> Iterator[Block]:
        for start in range(0, len(data), _IMAGES_AT_ONCE):
            arrays, names = [], []
            for position in range(start, min(start + _IMAGES_AT_ONCE, len(data))):
                image, label = _item(data, position)
                if int(label) != labels[position]:
                    problem = f"image {position} has the label {label}, and {labels[position]} in the list of labels"
                    raise InputError(problem, where=name, remedy="use another source")
                names.append(f"{name}, image {position}")
                arrays.append(to_array(image, where=names[-1], size=size))
            yield Block(arrays, names)

    # The library reads the images, one at a time, and decoding processes would have to load it.
    return EncodedSplit(torch.tensor(labels, dtype=torch.int64), blocks, name, parallel=False)


def _item(data: Any, position: int) -> tuple[Any, Any]:
    item = data[position]
    return item if isinstance(item, tuple) and len(item) == 2 else (item, "")
