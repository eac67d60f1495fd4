"""Counterexamples to certificates, found in tables of attacks."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from gauntlet.core.schemas import CERTIFICATE_SCHEMA, EVALUATION_SCHEMA
from gauntlet.robustness.certificates.counterexamples import COUNTEREXAMPLE_SCHEMA, find_counterexamples


def certificate(sample: str, radius: float, **other: Any) -> dict[str, Any]:
    blank = {"experiment": "e", "variant": "v", "seed": 0, "certificate": "c", "norm": "l2", "index": 0, "label": 1}
    more = {
        "clean_prediction": 1,
        "clean_confidence": 0.9,
        "radius": radius,
        "status": "certified",
        "sample_hash": sample,
    }
    return {**blank, **more, **other}


def attacked(sample: str, distance: float, **other: Any) -> dict[str, Any]:
    blank = {"experiment": "e", "variant": "v", "seed": 0, "attack": "a", "norm": "l2", "index": 0, "label": 1}
    norms = {"epsilon": distance, "l0": 64.0, "l1": 9.0, "l2": distance, "linf": distance / 2}
    rest = {"clean_prediction": 1, "adversarial_prediction": 2, "clean_confidence": 0.9, "adversarial_confidence": 0.5}
    more = {
        "forwards": 1,
        "backwards": 1,
        "zero_gradients": 0,
        "nonfinite_gradients": 0,
        "status": "adversarial",
        "sample_hash": sample,
    }
    return {**blank, **norms, **rest, **more, **other}


def check(certificates: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table = find_counterexamples(
        pa.Table.from_pylist(certificates, schema=CERTIFICATE_SCHEMA),
        pa.Table.from_pylist(evaluations, schema=EVALUATION_SCHEMA),
    )
    assert table.schema.equals(COUNTEREXAMPLE_SCHEMA)
    return table.to_pylist()


def test_a_radius_above_a_distance_is_a_violation() -> None:
    """A sample fooled at exactly its radius is no counterexample."""
    found = check([certificate("s", 1.0), certificate("t", 1.0)], [attacked("s", 0.75), attacked("t", 1.0)])
    assert [(row["sample_hash"], row["radius"], row["distance"], row["index"]) for row in found] == [
        ("s", 1.0, 0.75, 0)
    ]
    assert (found[0]["certificate"], found[0]["attack"], found[0]["norm"]) == ("c", "a", "l2")


def test_rows_are_joined_by_sample_and_model() -> None:
    """Only the same sample of the same experiment, variant and seed is compared: by index and by content."""
    near = attacked("s", 0.5)
    others = [
        {**near, key: value}
        for key, value in (("variant", "w"), ("seed", 1), ("experiment", "f"), ("sample_hash", "t"), ("index", 3))
    ]
    assert check([certificate("s", 1.0)], others) == []
    assert len(check([certificate("s", 1.0)], [*others, near])) == 1


def test_an_attack_in_another_norm_counts_with_its_measured_distance() -> None:
    """An L-infinity attack with a smaller L2 distance than the radius is a counterexample."""
    assert check([certificate("s", 1.0)], [attacked("s", 0.9, norm="linf", epsilon=0.01)])[0]["distance"] < 0.91
    assert check([certificate("s", 1.0, norm="linf")], [attacked("s", 1.8)])[0]["norm"] == "linf"


def test_an_attack_on_few_samples_refutes_the_certificates_of_these() -> None:
    """Every attacked sample is compared, whatever the other attacks were run on."""
    certificates = [certificate(f"s{number}", 0.5, index=number) for number in range(4)]
    few = [attacked(f"s{number}", 0.4, index=number, attack="few") for number in range(2)]
    rows = check(certificates, [*[attacked(f"s{number}", 0.6, index=number) for number in range(4)], *few])
    assert [(row["attack"], row["index"]) for row in rows] == [("few", 0), ("few", 1)]


def test_only_certified_and_fooled_samples_are_compared() -> None:
    """Robust, error and abstained rows do not count, and neither does a sample that is misclassified as it is."""
    assert (
        check([certificate("s", 1.0)], [attacked("s", 0.5, status="robust"), attacked("s", 0.5, status="error")]) == []
    )
    assert check([certificate("s", 0.0, status="abstained")], [attacked("s", 0.0)]) == []
    zero = attacked("s", 0.0, status="already_wrong")
    assert check([certificate("s", 1.0)], [zero]) == []
    assert check([certificate("s", 0.0, status="already_wrong")], [zero]) == []
    assert check([], []) == []


def test_the_worst_comes_first() -> None:
    """Counterexamples are sorted by the excess of the radius over the distance."""
    found = check(
        [certificate(name, 1.0) for name in "stu"], [attacked("s", 0.9), attacked("t", 0.2), attacked("u", 0.5)]
    )
    assert [row["sample_hash"] for row in found] == ["t", "u", "s"]
