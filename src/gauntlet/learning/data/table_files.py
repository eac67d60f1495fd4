"""Selection of the parquet files of each split, by the names of files and folders."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gauntlet.core.errors import InputError, shortened
from gauntlet.learning.data.split_names import SplitName, exact_split, is_filler, shard_number, split_name, words_of
from gauntlet.learning.data.visible import files_below

log = logging.getLogger("gauntlet")

SUFFIXES = (".parquet", ".parq", ".pq")


@dataclass(frozen=True)
class _TableFile:
    """A file and its place in a data set.

    `table` identifies the table to which the file belongs: its path without the split and the shard.
    """

    path: Path
    split: str
    word: str
    folder: str
    table: tuple[str, ...]
    shard: tuple[int, int] | None


def table_files(base: Path) -> dict[str, list[Path]]:
    """Return the files of each split in `base` and below, in the order of their names; some splits may be absent.

    The split is in the name of the file, else in that of the nearest folder. Raises InputError if there is no table for
    training or tests, if a split has two tables or two spellings, or if shards are missing.
    """
    paths = sorted(path for path in files_below(base) if path.suffix.lower() in SUFFIXES)
    files = [file for path in paths if (file := _table_file(path, base)) is not None]
    splits = {split: [file for file in files if file.split == split] for split in ("train", "test", "validation")}
    unread = [path for path in paths if path not in {file.path for file in files}]
    if not splits["train"] and (unread or not splits["test"]):
        problem = "there is no training table" + (f" among {shortened(_relative(paths, base))}" if paths else "")
        remedy = "set `root:` to the folder that contains train.parquet or train-00000-of-….parquet"
        raise InputError(problem, where=str(base / "train*.parquet"), remedy=remedy)
    for several in splits.values():
        _check_one_table(several, base)
    if unread:
        log.warning("%s: not read, since their names name no split: %s", base, shortened(_relative(unread, base)))
    return {split: [file.path for file in several] for split, several in splits.items() if several}


def _table_file(path: Path, base: Path) -> _TableFile | None:
    stem, shard = shard_number(path.stem)
    folders = path.relative_to(base).parts[:-1]
    named = split_name(stem)
    if named is None and len({split_name(word) for word in words_of(stem)} - {None}) > 1:
        problem = "names more than one split"
        raise InputError(problem, where=str(path), remedy="rename it, or set `root:` to a folder without it")
    by_folder: SplitName | None = None
    rest = []
    for folder in reversed(folders):
        found = exact_split(folder.rpartition("=")[2])
        if found is None:
            rest.append(folder)
        elif named is None and by_folder is None:
            by_folder = found
    split = named or by_folder
    if split is None:
        return None
    table = tuple(folder.lower() for folder in rest if "=" not in folder and not is_filler(folder))
    return _TableFile(path, split.split, split.word, "/".join(reversed(rest)), (*table, *split.rest), shard)


def _check_one_table(files: Sequence[_TableFile], base: Path) -> None:
    """Raise InputError unless the files of a split are one table, or all the shards of one."""
    tables = {file.table: file for file in files}
    if len(tables) > 1:
        names = shortened(_relative([file.path for file in tables.values()], base))
        problem = f"contains {len(tables)} tables for the split {files[0].split}: {names}"
        folders = sorted({file.folder for file in files})
        remedy = f"set `root:` to one of its folders, such as {base / folders[-1]}" if len(folders) > 1 else ""
        raise InputError(problem, where=str(base), remedy=remedy or "move all but one to another folder")
    spellings = sorted({file.word for file in files})
    if len(spellings) > 1:
        problem = f"contains the split {files[0].split} in two spellings: {shortened(spellings)}"
        raise InputError(problem, where=str(base), remedy="move one of them to another folder")
    shards = [file.shard for file in files if file.shard is not None]
    if not shards:
        return
    totals = sorted({total for _, total in shards})
    if len(shards) < len(files) or len(totals) > 1 or len(set(shards)) < len(shards):
        names = shortened(_relative([file.path for file in files], base))
        problem = f"contains the split {files[0].split} more than once, or shards of several editions: {names}"
        raise InputError(problem, where=str(base), remedy="keep the shards of one edition")
    first = min(number for number, _ in shards)
    missing = sorted(set(range(min(first, 1), min(first, 1) + totals[0])) - {number for number, _ in shards})
    if missing:
        problem = f"lacks {len(missing)} of {totals[0]} shards of the split {files[0].split}: {shortened(missing)}"
        raise InputError(problem, where=str(base), remedy="download the missing files")


def _relative(paths: Sequence[Path], base: Path) -> list[str]:
    return [str(path.relative_to(base)) for path in paths]
