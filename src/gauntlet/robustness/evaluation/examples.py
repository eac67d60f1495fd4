"""Which adversarial examples are kept: some to look at, and those most likely to contradict a certificate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Examples = dict[str, np.ndarray]


def candidates(examples: Examples, keep: int) -> Examples:
    """Keep of one part what the final choice could take, whatever the other parts hold."""
    return _take(examples, _first(examples, keep) | _riskiest(examples, keep))


def select(parts: Sequence[Examples], keep: int) -> Examples:
    """Choose `keep` examples from the parts' candidates, by index.

    Half are the fooled samples of lowest index; half those with the largest `ratio` of clean margin to distance, where
    a margin certificate is most likely to be wrong. Ties go to the lower index.
    """
    filled = [part for part in parts if len(part.get("index", ()))]
    if not filled or keep == 0:
        return {}
    merged = {name: np.concatenate([part[name] for part in filled]) for name in filled[0]}
    chosen = _first(merged, keep - keep // 2)
    for position in _by_ratio(merged):
        if len(chosen) >= keep:
            break
        chosen.add(position)
    return _take(merged, chosen)


def _first(examples: Examples, keep: int) -> set[int]:
    return set(np.argsort(examples["index"], kind="stable")[:keep].tolist())


def _riskiest(examples: Examples, keep: int) -> set[int]:
    return set(_by_ratio(examples)[:keep])


def _by_ratio(examples: Examples) -> list[int]:
    order: list[int] = np.lexsort((examples["index"], -examples["ratio"])).tolist()
    return order


def _take(examples: Examples, positions: set[int]) -> Examples:
    order = sorted(positions, key=lambda position: int(examples["index"][position]))
    return {name: values[order] for name, values in examples.items()}
