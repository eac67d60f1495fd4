"""AutoAttack: its parts, their losses, samples, and results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from gauntlet.robustness.attacks import autoattack as module
from gauntlet.robustness.attacks.autoattack import autoattack
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support.attack_problems import Problem, affine_problem


def calls(version: str, classes: int, norm: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Run the sequence with parts that do nothing; return their arguments."""
    asked: list[tuple[Any, ...]] = []

    def ascent(model: AttackModel, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        asked.append(("apgd", options["loss"], options["targets"], options["restarts"], options["steps"]))
        return x

    def windows(model: AttackModel, x: Tensor, y: Tensor, **options: Any) -> Tensor:
        asked.append(("square", options["queries"]))
        return x

    def boundary(
        search: Any, x: Tensor, y: Tensor, keys: Tensor, *, targets: int, restarts: int, epsilon: float
    ) -> Tensor:
        asked.append(("fab", targets, restarts, search.steps, epsilon))
        return x

    monkeypatch.setattr(module, "apgd", ascent)
    monkeypatch.setattr(module, "square", windows)
    monkeypatch.setattr(module.FAB, "run", boundary)
    problem = affine_problem(classes, (1, 8, 8))
    model = AttackModel(problem.network)
    model.start_counting(7)
    found = autoattack(
        model,
        problem.images,
        problem.labels,
        norm=norm,
        epsilon=0.1,
        keys=torch.arange(7),
        version=version,  # type: ignore[arg-type]
    )
    assert torch.equal(found, problem.images)
    return asked


def test_the_standard_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """APGD, targeted APGD, targeted FAB and Square run with the published numbers."""
    assert calls("standard", 5, "linf", monkeypatch) == [
        ("apgd", "cross_entropy", 0, 1, 100),
        ("apgd", "dlr", 9, 1, 100),
        ("fab", 9, 1, 100, 0.1),
        ("square", 5000),
    ]


def test_other_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1 has more restarts and fewer targets; `plus` runs untargeted and targeted parts; `rand` APGD only."""
    assert calls("standard", 5, "l1", monkeypatch)[:2] == [
        ("apgd", "cross_entropy", 0, 5, 100),
        ("apgd", "dlr", 5, 1, 100),
    ]
    assert calls("plus", 5, "l2", monkeypatch) == [
        ("apgd", "cross_entropy", 0, 5, 100),
        ("apgd", "dlr", 0, 5, 100),
        ("fab", 0, 5, 100, 0.1),
        ("square", 5000),
        ("apgd", "dlr", 9, 1, 100),
        ("fab", 9, 1, 100, 0.1),
    ]
    assert calls("rand", 5, "l2", monkeypatch) == [
        ("apgd", "cross_entropy", 0, 1, 100),
        ("apgd", "dlr", 0, 1, 100),
    ]


@pytest.mark.parametrize(
    ("classes", "plain", "targeted"), [(2, "margin", "margin"), (3, "dlr", "margin"), (4, "dlr", "dlr")]
)
def test_with_too_few_classes_the_margin_replaces_the_ratio(
    classes: int, plain: str, targeted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The difference of logits ratio needs three classes, and four with targets."""
    asked = calls("plus", classes, "linf", monkeypatch)
    assert [call[1] for call in asked if call[0] == "apgd"] == ["cross_entropy", plain, targeted]


def parts_that(*results: Callable[[Tensor], Tensor]) -> Callable[..., Iterator[tuple[str, Any]]]:
    """Return parts that map the image by the given functions and record their arguments."""

    def parts(*_: Any, **__: Any) -> Iterator[tuple[str, Any]]:
        for number, result in enumerate(results):

            def part(x: Tensor, y: Tensor, keys: Tensor, result: Any = result) -> Tensor:
                given.append((x, keys))
                return result(x)

            yield str(number), part

    given: list[tuple[Tensor, Tensor]] = []
    parts.given = given  # type: ignore[attr-defined]
    return parts


@pytest.fixture
def halves() -> tuple[Problem, Callable[[Tensor], Tensor]]:
    """A problem, and a part that fools only the first three samples."""
    problem = affine_problem(2, (1, 8, 8))
    others = problem.images[(problem.labels == 0).nonzero()[0]], problem.images[(problem.labels == 1).nonzero()[0]]

    def fool(x: Tensor) -> Tensor:
        found = x.clone()
        for row, image in enumerate(x):
            at = int((problem.images == image).flatten(1).all(1).nonzero()[0, 0])
            if at < 3:
                found[row] = others[1 - int(problem.labels[at])][0]
        return found

    return problem, fool


def test_later_parts_get_the_clean_images_of_robust_samples(
    halves: tuple[Problem, Callable[[Tensor], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fooled samples keep their first adversarial image, and each part has keys of its own."""
    problem, fool = halves
    parts = parts_that(lambda x: (x + 0.001).clamp(0, 1), fool, lambda x: x)
    monkeypatch.setattr(module, "_attacks", parts)
    model = AttackModel(problem.network)
    model.start_counting(7)
    found = autoattack(model, problem.images, problem.labels, norm="linf", epsilon=1.0, keys=torch.arange(7))
    given = parts.given  # type: ignore[attr-defined]
    assert [len(x) for x, _ in given] == [7, 7, 4]
    assert torch.equal(given[1][0], problem.images)
    assert torch.equal(given[2][0], problem.images[3:])
    assert not torch.equal(given[0][1], given[1][1])
    assert torch.equal(found[:3], fool(problem.images)[:3])
    assert (problem.network(found).argmax(1) == problem.labels).tolist() == [False] * 3 + [True] * 4
    assert model.counts.totals["forwards"].tolist() == [4] * 3 + [4] * 4


def test_in_a_transfer_every_part_sees_every_sample(
    halves: tuple[Problem, Callable[[Tensor], Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without queries of the target, every sample stays, and the image worst for the sources is kept."""
    problem, fool = halves
    parts = parts_that(lambda x: x, fool, lambda x: x)
    monkeypatch.setattr(module, "_attacks", parts)
    model = AttackModel(affine_problem(3, (1, 8, 8)).network, sources=[problem.network])
    model.start_counting(7)
    found = autoattack(model, problem.images, problem.labels, norm="linf", epsilon=1.0, keys=torch.arange(7))
    assert [len(x) for x, _ in parts.given] == [7, 7, 7]  # type: ignore[attr-defined]
    assert torch.equal(found, fool(problem.images))


def test_it_is_no_weaker_than_its_parts(convolutional: Problem) -> None:
    """It breaks every sample that APGD or Square breaks."""
    options = {"autoattack": {"steps": 10, "queries": 100}, "apgd": {"steps": 10}, "square": {"queries": 100}}
    broken = {}
    for name, own in options.items():
        rows = convolutional.run(name, "linf", (0.08,), options=own).rows.to_pandas()
        broken[name] = set(rows.index[rows["status"] == "adversarial"])
    assert broken["apgd"] | broken["square"] <= broken["autoattack"]
    assert 0 < len(broken["autoattack"]) < 12
