"""Order in which budgets are tried: upward and downward place every sample alike, and downward costs less."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.registry import ATTACKS, Spec
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.evaluation import (
    AttackSettings,
    CellIdentity,
    Evaluation,
    evaluate,
    evaluate_parts,
    evaluator,
    merge_parts,
)
from gauntlet.robustness.evaluation.budget_walk import walks_downward
from tests.support import budget_attacks
from tests.support.attack_problems import Problem, convolutional_problem
from tests.support.budget_attacks import CALLS, Brightness, Coded, coded_images

SUPPORT = "tests.support.budget_attacks:"
GRID = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.2)
NEEDED = torch.tensor([0.005, 0.011, 0.03, 0.05, 0.1, 0.13, 0.19, 0.3, -0.1, 0.041])
IMAGES = (0.5 - NEEDED)[:, None, None, None].expand(-1, 1, 2, 4).contiguous()
LABELS = torch.zeros(10, dtype=torch.int64)
PLACED = [0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.2, None, 0.0, 0.08]


@pytest.fixture(autouse=True)
def _no_calls() -> Iterator[None]:
    CALLS.clear()
    yield
    budget_attacks.SCRIPTS.clear()


def settings(name: str, norm: str, epsilons: tuple[float, ...], **options: Any) -> AttackSettings:
    defaults = {option.name: option.default for option in ATTACKS.entry(name).options or ()}
    return AttackSettings("attack", Spec(name, {**defaults, **options}), norm, epsilons)


def run(name: str, *, network: nn.Module | None = None, norm: str = "linf", **more: Any) -> Evaluation:
    attack = settings(SUPPORT + name, norm, more.pop("epsilons", GRID))
    return evaluate(network or Brightness().eval(), IMAGES, LABELS, attack, identity=CellIdentity(), **more)


def in_both_orders(
    monkeypatch: pytest.MonkeyPatch, problem: Problem, attack: AttackSettings, **more: Any
) -> list[Evaluation]:
    """Evaluate with budgets walked upward, then downward."""
    evaluations = []
    for downward in (False, True):
        monkeypatch.setattr(evaluator, "walks_downward", lambda *_, downward=downward: downward)
        arguments = (problem.network, problem.images, problem.labels, attack)
        evaluations.append(evaluate(*arguments, identity=CellIdentity(), **more))
    return evaluations


def placed(evaluation: Evaluation) -> list[float | None]:
    return evaluation.rows["epsilon"].to_pylist()


@pytest.mark.parametrize("name", ["upward", "direct", "wasteful"])
def test_each_sample_is_placed_at_the_smallest_budget_that_fools_it(name: str) -> None:
    """In either order, whether a projected success fools again or the attack must find another point."""
    result = run(name)
    assert placed(result) == PLACED
    table = result.rows.to_pandas()
    assert table["status"].tolist() == [
        "already_wrong" if e == 0 else "robust" if e is None else "adversarial" for e in PLACED
    ]
    # The stored image is that of the sample's budget, and fools; that of a robust sample is from the largest budget.
    sizes = [0.2 if e is None else e for e in PLACED]
    assert np.allclose(table["linf"], sizes, atol=1e-6)
    kept = result.examples
    assert kept["epsilon"].tolist() == [e for e in PLACED if e]
    assert np.allclose(kept["distance"], kept["epsilon"], atol=1e-6)
    assert (Brightness()(torch.tensor(kept["adversarial"])).argmax(1) == 1).all()
    assert result.errors == ()


def test_downward_a_sample_that_holds_at_the_largest_budget_is_done() -> None:
    """The largest budget is first; the others see only samples that it fooled, and none below a failed budget."""
    run("direct")
    # After a success the smallest ball in which it fools again is known: the attack fails once, at the budget below.
    assert CALLS == [(0.2, 9), (0.16, 1), (0.12, 1), (0.08, 1), (0.04, 2), (0.02, 1), (0.01, 1)]
    CALLS.clear()
    run("upward")
    assert [size for _, size in CALLS] == [9, 8, 7, 6, 4, 3, 2]


def test_every_check_of_a_projected_success_is_counted() -> None:
    """A call of the attack is one forward here, each ball tried in the bisection another, and each below a hold."""
    forwards = run("direct").rows["forwards"].to_pylist()
    # Positions -1 < p <= 6: the middle of 6 and -1 is 2, of 6 and 2 is 4, of 2 and -1 is 0, and so on.
    checks = {0: 2, 1: 3, 2: 3, 3: 3, 4: 3, 5: 3, 6: 3}
    position = {e: p for p, e in enumerate(GRID)}
    for sample, epsilon in enumerate(PLACED):
        if epsilon is None:
            assert forwards[sample] == 1 + len(GRID) - 1
        elif epsilon == 0:
            assert forwards[sample] == 0
        else:
            below = position[epsilon]  # the attack also fails at the budget below, if any, and in all balls below that
            assert forwards[sample] == 1 + below + checks[position[epsilon]], sample


def test_a_hold_beyond_a_thin_region_is_tried_in_smaller_balls() -> None:
    """At the largest budget the attack passes the only brightness that fools, which its point finds when projected."""

    class Shell(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            """Map images to logits."""
            inside = self.scale * (0.03 - (x.flatten(1).mean(1) - 0.53).abs())
            return torch.stack([-inside, inside], 1)

    images = torch.full((2, 1, 2, 2), 0.45)
    images[1] = 0.2
    for name in ("direct", "upward"):
        plan = settings(SUPPORT + name, "linf", (0.02, 0.06, 0.1, 0.2))
        rows = evaluate(Shell().eval(), images, torch.tensor([0, 0]), plan, identity=CellIdentity()).rows
        assert rows["epsilon"].to_pylist() == [0.06, None]


def test_only_tagged_attacks_on_models_they_see_walk_downward() -> None:
    """Not another norm, a transfer, or a random model: there a sample may hold at the largest budget only."""

    class Noisy(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            """Map noisy images to logits."""
            return super().forward(x + 1e-4 * torch.randn(x.shape))

    attack = settings(SUPPORT + "direct", "linf", (0.1, 0.2))
    random = AttackSettings("a", attack.spec, "linf", (0.1, 0.2), draws=2)
    first = {}
    for case, network, chosen, sources in (
        ("tagged", Brightness(), attack, ()),
        ("another norm", Brightness(), settings(SUPPORT + "direct", "l2", (0.1, 0.2)), ()),
        ("untagged", Brightness(), settings(SUPPORT + "upward", "linf", (0.1, 0.2)), ()),
        ("transfer", Brightness(), attack, (Brightness().eval(),)),
        ("random", Noisy(), random, ()),
    ):
        CALLS.clear()
        evaluate(network.eval(), IMAGES, LABELS, chosen, identity=CellIdentity(), sources=sources)
        first[case] = CALLS[0][0] > CALLS[-1][0]
    assert first == {"tagged": True, "another norm": False, "untagged": False, "transfer": False, "random": False}


@pytest.mark.parametrize(
    ("name", "options", "downward"),
    [
        ("pgd", {"steps": 5}, True),
        ("pgd", {"steps": 4}, False),
        ("bim", {"steps": 1}, False),
        ("pgd", {"steps": 10, "step_size": 0.02}, True),
        ("pgd", {"steps": 9, "step_size": 0.02}, False),
        ("pgd", {"steps": 19, "step_size": 0.1999 / 19}, True),
        ("pgd", {"steps": None, "step_size": "small"}, True),
        ("fgsm", {}, False),
        ("mi_fgsm", {}, False),
        ("max_confidence", {}, False),
        ("gaussian_noise", {}, False),
        ("foolbox:LinfPGD", {}, False),
    ],
)
def test_attacks_that_may_miss_at_large_budgets_walk_upward(name: str, options: dict[str, Any], downward: bool) -> None:
    """With few steps, or steps that do not add up to the largest budget, a sample may hold at that budget only.

    A user's attack may mean something else by these options.
    """
    model = AttackModel(Brightness().eval())
    assert walks_downward(settings(name, "linf", (0.1, 0.2), **options), model) == downward


SCRIPTED: list[tuple[str, float | None, str]] = [
    # At 0.1, 0.2, 0.3: h(olds), f(ools), n(ot finite), l(eaves the ball); the budget and the status of the row.
    ("hhh", None, "robust"),
    ("hhf", 0.3, "adversarial"),
    ("hff", 0.2, "adversarial"),
    ("fff", 0.1, "adversarial"),
    ("hhn", None, "error"),
    ("hnf", None, "error"),
    ("nff", None, "error"),
    ("nnn", None, "error"),
    ("hff", 0.2, "adversarial"),
    ("ffn", 0.1, "adversarial"),
    ("hfl", 0.2, "adversarial"),
    ("fnf", 0.1, "adversarial"),
    ("hln", None, "error"),
    ("flf", 0.1, "adversarial"),
]


@pytest.mark.parametrize("name", ["scripted", "scripted_upward"])
def test_an_invalid_image_counts_unless_a_smaller_budget_fools(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In either order: it hides no success at a smaller budget, and a sample that holds below is no robust one."""
    epsilons = (0.1, 0.2, 0.3)
    words = {"h": "hold", "f": "fool", "n": "nan", "l": "leave"}
    budget_attacks.SCRIPTS += [
        {e: words[letter] for e, letter in zip(epsilons, script, strict=True)} for script, _, _ in SCRIPTED
    ]
    images = coded_images(len(SCRIPTED))
    problem = Problem(Coded(epsilons).eval(), images, torch.zeros(len(images), dtype=torch.int64))
    monkeypatch.setattr(evaluator, "walks_downward", lambda *_: name == "scripted")
    attack = settings(SUPPORT + "scripted", "linf", epsilons)
    result = evaluate(problem.network, images, problem.labels, attack, identity=CellIdentity())
    rows = result.rows.to_pylist()
    assert [(row["epsilon"], row["status"]) for row in rows] == [(e, status) for _, e, status in SCRIPTED]
    wrong = [number for number, (_, _, status) in enumerate(SCRIPTED) if status == "error"]
    assert [int(line.split()[1].rstrip(":")) for line in result.errors] == wrong
    for row in rows:
        assert np.isnan(row["adversarial_confidence"]) == (row["status"] == "error")
        assert row["adversarial_prediction"] == {"adversarial": 1, "robust": 0, "error": -1}[row["status"]]
    assert result.examples["index"].tolist() == [n for n, (_, e, _) in enumerate(SCRIPTED) if e]


CONVOLUTIONAL = convolutional_problem()
FEWER: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 6},
    "bim": {"steps": 6},
    "apgd": {"steps": 6},
    "adaptive": {"steps": 5, "targets": 1},
    "autoattack": {"steps": 5, "queries": 20},
    "square": {"queries": 40},
}
MORE = {"restarts": 2, "targets": 2, "loss": ["cross_entropy", "margin"]}


def downward_cases() -> Iterator[Any]:
    """Yield each attack and norm with the attack's defaults, and with several restarts, targets and losses."""
    for name, entry in ATTACKS.catalog.items():
        more = {option.name: MORE[option.name] for option in entry.options or () if option.name in MORE}
        for norm in entry.tags.get("downward", ()):
            for label, options in {"plain": {}, **({"more": more} if more else {})}.items():
                yield pytest.param(name, norm, options, id=f"{name}-{norm}-{label}")


@pytest.mark.parametrize(("name", "norm", "options"), list(downward_cases()))
def test_downward_places_no_sample_higher(
    name: str, norm: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each registered attack that walks downward: budgets are at most those of the upward walk, at fewer passes."""
    epsilons = {"l2": (0.1, 0.2, 0.4), "linf": (0.02, 0.04, 0.08), "l1": (0.3, 0.6, 1.2)}
    attack = settings(name, norm, epsilons[norm], **FEWER.get(name, {}) | options)
    up, down = in_both_orders(monkeypatch, CONVOLUTIONAL, attack)
    budgets = [[np.inf if e is None else e for e in placed(evaluation)] for evaluation in (up, down)]
    assert all(second <= first for first, second in zip(*budgets, strict=True)), budgets
    assert sum(first == second for first, second in zip(*budgets, strict=True)) >= 14
    assert len(set(budgets[0])) > 2
    costs = [sum(e.rows["forwards"].to_pylist()) + 2 * sum(e.rows["backwards"].to_pylist()) for e in (up, down)]
    assert costs[1] < costs[0]


@pytest.mark.parametrize(("name", "norm"), [("pgd", "linf"), ("pgd", "l1"), ("apgd", "l2"), ("adaptive", "linf")])
def test_rows_depend_on_no_batch_and_resume_in_the_middle(name: str, norm: str) -> None:
    """In float64 all columns are the same in batches and parts of any size, and when parts come from two runs."""
    epsilons = {"l2": (0.1, 0.2, 0.4), "linf": (0.02, 0.04, 0.08), "l1": (0.3, 0.6, 1.2)}[norm]
    attack = settings(name, norm, epsilons, **FEWER[name])
    arguments = (CONVOLUTIONAL.network, CONVOLUTIONAL.images, CONVOLUTIONAL.labels, attack)

    def parts(**more: Any) -> list[Any]:
        return list(evaluate_parts(*arguments, identity=CellIdentity(), precision="float64", **more))

    def rounded(found: list[Any]) -> Any:
        return merge_parts(found).rows.to_pandas().round({"l1": 5, "l2": 5, "linf": 5, "adversarial_confidence": 4})

    whole = rounded(parts())
    assert whole["status"].nunique() == 3
    for more in ({"batch_size": 1}, {"batch_size": 4}, {"part_size": 4}):
        assert whole.equals(rounded(parts(**more))), more
    assert whole.equals(rounded([*parts(ranges=[(8, 15)]), *parts(part_size=4)[:2]]))
