"""Choice of the adversarial examples to keep: some to look at, and those most likely to contradict a certificate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Examples = dict[str, np.ndarray]


def candidate_examples(examples: Examples, keep: int) -> Examples:
    """Return the examples of one part that `select_examples` may choose, whatever the other parts hold."""
    first = np.argsort(examples["index"], kind="stable")[:keep].tolist()
    return _take(examples, {*first, *_by_ratio(examples)[:keep]})


def select_examples(parts: Sequence[Examples], keep: int) -> Examples:
    """Select `keep` examples from the candidates of all parts, sorted by index.

    Half are the fooled samples of lowest index; half those with the largest `ratio` of clean margin to distance, where
    a margin certificate is most likely to be wrong. Ties go to the lower index.
    """
    filled = [part for part in parts if len(part.get("index", ()))]
    if not filled or keep == 0:
        return {}
    merged = {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
    chosen = set(np.argsort(merged["index"], kind="stable")[: keep - keep // 2].tolist())
    for position in _by_ratio(merged):
        if len(chosen) >= keep:
            break
        chosen.add(position)
    return _take(merged, chosen)


def _by_ratio(examples: Examples) -> list[int]:
    order: list[int] = np.lexsort((examples["index"], -examples["ratio"])).tolist()
    return order


def _take(examples: Examples, positions: set[int]) -> Examples:
    order = sorted(positions, key=lambda position: int(examples["index"][position]))
    return {name: values[order] for name, values in examples.items()}
