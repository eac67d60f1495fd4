"""Any classification set of torchvision, downloaded or already on disk."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gauntlet.core.errors import InputError, nearest
from gauntlet.learning.data.decoding import stack, to_array
from gauntlet.learning.data.splits import RawData, Split
from gauntlet.registry import SOURCES, PositiveInt

_SPLIT_NAMES = {"train": ("train",), "validation": ("val", "valid"), "test": ("test",)}


@SOURCES.register(
    "torchvision",
    classes={
        "CIFAR10": 10,
        "CIFAR100": 100,
        "FashionMNIST": 10,
        "GTSRB": 43,
        "KMNIST": 10,
        "MNIST": 10,
        "STL10": 10,
        "SVHN": 10,
        "USPS": 10,
    },
    source="the classification sets of torchvision",
)
def torchvision(
    *,
    name: str,
    root: str = "downloads",
    download: bool = False,
    subset: str | None = None,
    size: PositiveInt | None = None,
) -> RawData:
    """Read the set `name` (the class name, such as MNIST or CIFAR10) from the folder `root`.

    `download` fetches what is not there. `subset` chooses among a set's variants where it has some (EMNIST: letters,
    digits, …). `size`: scale the shorter side to so many pixels and cut out the middle square, for sets whose images
    differ in size. Raises InputError for an unknown or other than classification set, and, naming the place, when the
    files are missing or damaged.
    """
    from torchvision import datasets

    known = [other for other in datasets.__all__ if "root" in _parameters(getattr(datasets, other))]
    if name not in known:
        raise InputError(f"torchvision has no image set '{name}'", where="name", remedy=nearest(name, known))
    factory = getattr(datasets, name)
    found: dict[str, Any] = {}
    for split, arguments in _splits(factory, subset).items():
        opened = _open(factory, root, download, arguments, optional=split == "validation")
        if opened is not None:
            found[split] = opened
    classes = _classes(found)
    splits = {split: _read(opened, name, size) for split, opened in found.items()}
    if not classes:
        highest = max(int(split.labels.max()) for split in splits.values())
        classes = tuple(str(label) for label in range(highest + 1))
    return RawData(splits["train"], splits.get("test"), splits.get("validation"), classes)


def _parameters(factory: Any) -> list[str]:
    return list(inspect.signature(factory).parameters) if inspect.isclass(factory) else []


def _splits(factory: Any, subset: str | None) -> dict[str, dict[str, Any]]:
    """Say with which arguments each split of a set is opened."""
    names = {parameter for owner in factory.__mro__ if owner is not object for parameter in _parameters(owner)}
    own = _parameters(factory)
    if "train" in names:
        extra = {"split": subset} if subset is not None else {}
        return {"train": {"train": True, **extra}, "test": {"train": False, **extra}}
    if subset is not None:
        raise InputError(f"{factory.__name__} has no variants", where="subset", remedy="leave `subset:` out")
    if "split" not in own:
        return {"train": {}}
    return {split: {"split": spellings} for split, spellings in _SPLIT_NAMES.items()}


def _open(factory: Any, root: str, download: bool, arguments: dict[str, Any], *, optional: bool) -> Any:
    """Open one split; an optional one that the set does not have is None."""
    spellings = arguments.get("split")
    if isinstance(spellings, tuple):
        for spelling in spellings:
            try:
                return _opened(factory, root, download, {**arguments, "split": spelling})
            except ValueError:
                continue
        if optional or spellings == _SPLIT_NAMES["test"]:
            return None
        raise InputError(f"{factory.__name__} has no split 'train'", where="name", remedy="use another source")
    try:
        return _opened(factory, root, download, arguments)
    except ValueError as error:
        raise InputError(f"{factory.__name__}: {_first_line(error)}", where="subset") from error


def _opened(factory: Any, root: str, download: bool, arguments: dict[str, Any]) -> Any:
    options = {"download": download} if "download" in _all_parameters(factory) else {}
    try:
        return factory(root=root, **arguments, **options)
    except TypeError as error:
        remedy = "set `subset:`" if "split" in str(error) else "use another source"
        raise InputError(
            f"{factory.__name__} cannot be opened: {_first_line(error)}", where="name", remedy=remedy
        ) from error
    except (RuntimeError, OSError, EOFError) as error:
        place = _place(factory, root)
        if download:
            problem = f"{factory.__name__} could not be fetched ({_first_line(error)})"
            raise InputError(
                problem, where=place, remedy="put its files there by hand, and `download: false`"
            ) from error
        remedy = "put them there, set `root:` to the folder that holds them, or set `download: true`"
        raise InputError(
            f"the files of {factory.__name__} are missing or damaged", where=place, remedy=remedy
        ) from error


def _all_parameters(factory: Any) -> set[str]:
    return {parameter for owner in factory.__mro__ if owner is not object for parameter in _parameters(owner)}


def _place(factory: Any, root: str) -> str:
    """Name the folder or the files that a set is looked for in."""
    from torchvision import datasets

    if issubclass(factory, datasets.MNIST):
        files = [Path(url).stem for url, _ in getattr(factory, "resources", [])]
        return str(Path(root, factory.__name__, "raw", f"{{{','.join(files)}}}" if files else ""))
    return str(Path(root, str(getattr(factory, "base_folder", ""))))


def _classes(found: dict[str, Any]) -> tuple[str, ...]:
    names = getattr(found["train"], "classes", None)
    # ImageNet gives several synonyms for a class.
    return tuple(name if isinstance(name, str) else str(name[0]) for name in names) if names else ()


def _read(opened: Any, name: str, size: int | None) -> Split:
    from torchvision import datasets

    if size is None and isinstance(opened, datasets.MNIST):
        return Split(opened.data[:, None].contiguous(), opened.targets.long())
    if size is None and isinstance(opened, datasets.CIFAR10):
        images = torch.from_numpy(np.ascontiguousarray(opened.data.transpose(0, 3, 1, 2)))
        return Split(images, torch.tensor(opened.targets, dtype=torch.int64))
    arrays, labels, names = [], [], []
    for position in range(len(opened)):
        item = opened[position]
        image, label = item if isinstance(item, tuple) and len(item) == 2 else (item, "")
        try:
            labels.append(int(label))
        except (TypeError, ValueError) as error:
            problem = f"{name} is no classification set: its targets are no class numbers"
            raise InputError(problem, where="name") from error
        names.append(f"{name}, image {position}")
        arrays.append(to_array(image, where=names[-1], size=size))
    return Split(stack(arrays, names), torch.tensor(labels, dtype=torch.int64))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
