"""Choice of the adversarial examples to keep: some to look at, and those most likely to contradict a certificate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Examples = dict[str, np.ndarray]


def candidate_positions(examples: Examples, keep: int) -> list[int]:
    """Return the positions of the examples of one part that `select_examples` may choose, ordered by index.

    They do not depend on the other parts, nor on the images, so that images of no other example leave the device.
    """
    first = np.argsort(examples["index"], kind="stable")[:keep].tolist()
    chosen = {*first, *_first_of_classes(examples, keep), *_by_ratio(examples)[:keep]} if keep else set()
    return _by_index(examples, chosen)


def select_examples(parts: Sequence[Examples], keep: int) -> Examples:
    """Select `keep` examples from the candidates of all parts, sorted by index.

    Half are the fooled samples of lowest index, but first that of each class (of 1000 classes, those of the lowest
    numbers); half those with the largest `ratio` of clean margin to distance, where a margin certificate is most likely
    to be wrong. Ties go to the lower index.
    """
    filled = [part for part in parts if len(part.get("index", ()))]
    if not filled or keep == 0:
        return {}
    merged = {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
    by_index = np.argsort(merged["index"], kind="stable").tolist()
    half = keep - keep // 2
    chosen = set(list(dict.fromkeys([*_first_of_classes(merged, half), *by_index]))[:half])
    for position in _by_ratio(merged):
        if len(chosen) >= keep:
            break
        chosen.add(position)
    order = _by_index(merged, chosen)
    return {name: values[order] for name, values in merged.items()}


def _first_of_classes(examples: Examples, count: int) -> list[int]:
    """Return the position of the lowest index of each of the classes 0 to count - 1, in the order of the classes.

    The classes are limited by number, not by what is found, so that the choice does not depend on the parts.
    """
    order = np.argsort(examples["index"], kind="stable")
    labels, first = np.unique(examples["label"][order], return_index=True)
    positions: list[int] = order[first[labels < count]].tolist()
    return positions


def _by_ratio(examples: Examples) -> list[int]:
    order: list[int] = np.lexsort((examples["index"], -examples["ratio"])).tolist()
    return order


def _by_index(examples: Examples, positions: Iterable[int]) -> list[int]:
    return sorted(positions, key=lambda position: int(examples["index"][position]))
