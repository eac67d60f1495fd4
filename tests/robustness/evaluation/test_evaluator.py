"""The evaluator, which decides success independently of the attack."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import AttackError, GauntletError
from gauntlet.core.schemas import EVALUATION_SCHEMA
from gauntlet.learning.data.splits import sample_hashes
from gauntlet.registry import ATTACKS, Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate, evaluate_parts, merge_parts
from tests.support import cheating_attacks
from tests.support.attack_problems import Affine, convolutional_problem
from tests.support.budget_attacks import Brightness

IDENTITY = CellIdentity("digits", "softmax", 3)


NETWORK = Brightness().eval()
MEANS = torch.tensor([0.45, 0.05, 0.6, 0.35, 0.44, 0.25, 0.55, 0.3, 0.41, 0.02])
IMAGES = (MEANS[:, None, None, None] + torch.linspace(-0.02, 0.02, 16).reshape(1, 1, 4, 4)).clamp(0, 1)
LABELS = torch.zeros(10, dtype=torch.int64)  # the third and the seventh are misclassified


def plan(
    name: str, norm: str = "linf", epsilons: tuple[float, ...] | None = (0.1, 0.2), **options: Any
) -> AttackSettings:
    defaults = {option.name: option.default for option in ATTACKS.entry(name).options or ()}
    return AttackSettings("column", Spec(name, {**defaults, **options}), norm, epsilons)


def run(attack: AttackSettings, **settings: Any) -> Any:
    return evaluate(NETWORK, IMAGES, LABELS, attack, identity=IDENTITY, **settings)


def test_rows_have_the_schema_and_the_order_of_the_split() -> None:
    """There is one row per image with every column of the schema."""
    rows = run(plan("fgsm")).rows
    assert rows.schema.equals(EVALUATION_SCHEMA)
    table = rows.to_pandas()
    assert table["index"].tolist() == list(range(10))
    assert table["sample_hash"].tolist() == sample_hashes(IMAGES)
    assert set(table["experiment"]) == {"digits"}
    assert set(table["variant"]) == {"softmax"}
    assert set(table["seed"]) == {3}
    assert set(table["attack"]) == {"column"}
    assert table["clean_prediction"].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    clean = NETWORK(IMAGES).softmax(1).amax(1).detach().numpy()
    assert np.allclose(table["clean_confidence"], clean)


def test_epsilon_is_the_smallest_budget_that_fools() -> None:
    """It is 0 for misclassified samples, the grid value for bounded attacks, and null if never fooled."""
    table = run(plan("fgsm", epsilons=(0.2, 0.1))).rows.to_pandas()
    grid = [0.1, None, 0.0, 0.2, 0.1, None, 0.0, None, 0.1, None]
    assert [None if np.isnan(value) else value for value in table["epsilon"]] == grid  # float64: exactly 0.1
    wanted = ["already_wrong" if e == 0 else "robust" if e is None else "adversarial" for e in grid]
    assert table["status"].tolist() == wanted
    assert np.allclose(table["linf"], [0.1, 0.2, 0, 0.2, 0.1, 0.2, 0, 0.2, 0.1, 0.2], atol=1e-6)
    assert np.allclose(table["l2"], table["linf"] * 4, atol=1e-5)
    assert table["adversarial_prediction"].tolist() == [1, 0, 1, 1, 1, 0, 1, 0, 1, 0]
    assert (table["forwards"] == [1, 2, 0, 2, 1, 2, 0, 2, 1, 2]).all()


def test_a_minimum_norm_attack_is_measured() -> None:
    """Epsilon is the measured distance in the attack's norm."""
    table = run(plan("foolbox:DDNAttack", "l2", None)).rows.to_pandas()
    attacked = table[table["status"] != "already_wrong"]
    assert (attacked["status"] == "adversarial").all()
    assert (attacked["epsilon"] == attacked["l2"]).all()
    assert np.allclose(attacked["l2"], (0.5 - MEANS.numpy()[attacked["index"]]) * 4, rtol=0.05)


@pytest.mark.parametrize("name", ["foolbox:L2DeepFoolAttack", "foolbox:DDNAttack"])
def test_a_nearest_success_that_only_the_copy_sees_is_moved_outward(name: str) -> None:
    """On the boundary of a less exact copy, a point that the judge refuses is not robust at every distance."""
    network, images, labels = vars(convolutional_problem()).values()
    exact, rough = (
        evaluate(network, images, labels, plan(name, "l2", None), identity=IDENTITY, precision=precision).rows
        for precision in ("float32", "bfloat16")
    )
    assert rough["status"] == exact["status"]
    found, measured = (rows.to_pandas()["epsilon"].fillna(0) for rows in (rough, exact))
    assert np.allclose(found, measured, rtol=0.2)
    assert (found == rough.to_pandas()["l2"]).all()


def test_a_failure_of_a_minimum_norm_attack_is_robust() -> None:
    """A point that fools neither the copy nor the judge is not moved, though the boundary is on its way."""
    table = run(plan("tests.support.cheating_attacks:a_little_brighter", "l2", None)).rows.to_pandas()
    attacked = table[table["status"] != "already_wrong"]
    assert set(attacked["status"]) == {"robust"}
    assert (attacked["forwards"] == 1).all()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("outside_ball", r"sample 0: its linf distance 0\.11 exceeds epsilon 0\.1"),
        ("outside_box", r"sample 1: its values lie in \[-0\.06, "),
        ("not_finite", "sample 0: it has values that are not finite"),
        ("in_place", "sample 0: its linf distance"),
    ],
)
def test_an_attack_that_cheats_is_an_error_in_its_row(name: str, complaint: str) -> None:
    """Leaving ball or box, NaN, or changing its input gives the status error."""
    result = run(plan(f"tests.support.cheating_attacks:{name}"))
    row = result.rows.to_pandas().iloc[int(complaint[7])]
    assert row["status"] == "error"
    assert np.isnan(row["epsilon"])
    assert row["adversarial_prediction"] == -1
    assert re.match(complaint, result.errors[0])


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("wrong_shape", r"returned shape \(7, 1, 4, 4\) for images \(8, 1, 4, 4\)"),
        ("no_tensor", "returned str"),
        ("raising", "raised ZeroDivisionError: no gradient today"),
    ],
)
def test_an_attack_that_fails_altogether_fails_the_cell(name: str, complaint: str) -> None:
    """An exception, or a result that is no batch of images, ends the evaluation with the attack's name."""
    with pytest.raises(AttackError, match=f"{name} {complaint}"):
        run(plan(f"tests.support.cheating_attacks:{name}"))


def test_a_correctly_classified_result_is_robust() -> None:
    """An image that the model still classifies correctly is robust."""
    table = run(plan("tests.support.cheating_attacks:memory_hungry", epsilons=(0.01,)), batch_size=3).rows.to_pandas()
    assert set(table["status"]) == {"robust", "already_wrong"}


def test_out_of_memory_halves_the_batch_and_changes_nothing() -> None:
    """Rows and counts are those of small batches from the start."""
    cheating_attacks.CALLS.clear()
    halved = run(plan("tests.support.cheating_attacks:memory_hungry"), batch_size=8)
    sizes = [size for size, epsilon in cheating_attacks.CALLS if epsilon == 0.1]
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert halved.rows.equals(run(plan("tests.support.cheating_attacks:memory_hungry"), batch_size=2).rows)


def test_out_of_memory_within_the_model_halves_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack with its own batches is restarted with smaller ones, and counts again."""
    expected = run(plan("pgd", steps=5)).rows

    class Small(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 3:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return super().forward(x)

    network = Small().eval()
    got = evaluate(network, IMAGES, LABELS, plan("pgd", steps=5), identity=IDENTITY, batch_size=8).rows
    assert got.equals(expected)
    monkeypatch.setattr(Small, "forward", lambda self, x: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(GauntletError, match="out of memory with a batch of one"):
        evaluate(network, IMAGES, LABELS, plan("pgd"), identity=IDENTITY)


def test_budgets_ascend_and_fooled_samples_leave() -> None:
    """The search starts at the smallest budget, and fooled samples are not attacked again."""
    cheating_attacks.CALLS.clear()
    run(plan("tests.support.cheating_attacks:memory_hungry", epsilons=(0.3, 0.1, 0.2)), batch_size=3)
    walked = {e: sum(size for size, epsilon in cheating_attacks.CALLS if epsilon == e) for e in (0.1, 0.2, 0.3)}
    assert [epsilon for _, epsilon in cheating_attacks.CALLS] == sorted(
        epsilon for _, epsilon in cheating_attacks.CALLS
    )
    assert walked == {0.1: 8, 0.2: 5, 0.3: 4}


def test_parts_of_a_resumed_run_join_to_the_whole() -> None:
    """Parts of any size, half of them from a second run, give the same rows and examples."""
    attack = plan("pgd", steps=5)
    whole = run(attack, keep_examples=4)
    parts = list(evaluate_parts(NETWORK, IMAGES, LABELS, attack, identity=IDENTITY, part_size=3, keep_examples=4))
    left = [(6, 9), (9, 10)]
    again = evaluate_parts(NETWORK, IMAGES, LABELS, attack, identity=IDENTITY, ranges=left, keep_examples=4)
    joined = merge_parts([*again, *parts[:2]], keep_examples=4)
    assert [(part.start, part.stop) for part in parts] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert joined.rows.equals(whole.rows)
    assert {k: v.tolist() for k, v in joined.examples.items()} == {k: v.tolist() for k, v in whole.examples.items()}


def test_examples_are_the_first_and_the_riskiest() -> None:
    """Half are the fooled samples of lowest index, half those of largest clean margin per distance."""
    kept = run(plan("foolbox:DDNAttack", "l2", None, steps=8), keep_examples=4).examples
    everything = run(plan("foolbox:DDNAttack", "l2", None, steps=8), keep_examples=100).examples
    rest = [i for i in np.argsort(-everything["ratio"], kind="stable") if i >= 2]
    expected = sorted(everything["index"][[0, 1, *rest[:2]]].tolist())
    assert kept["index"].tolist() == expected
    assert np.array_equal(kept["original"], IMAGES[expected].numpy())
    moved = np.linalg.norm((kept["adversarial"] - kept["original"]).reshape(4, -1), axis=1)
    assert np.allclose(moved, kept["distance"], rtol=1e-4)
    margin = (NETWORK(IMAGES)[:, 0] - NETWORK(IMAGES)[:, 1]).detach().numpy()[expected]
    assert np.allclose(kept["ratio"], margin / kept["distance"], rtol=1e-4)
    assert run(plan("fgsm"), keep_examples=0).examples == {}


class NotANumberIfBright(nn.Module):
    """Affine model whose outputs are not a number where the first pixel is above 0.98."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Affine(3)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return torch.where(x.flatten(1)[:, :1] > 0.98, torch.nan, self.inner(x))


def test_outputs_that_are_not_finite_are_errors_whatever_the_label() -> None:
    """The first images pass the preflight; a later one is no class, though `argmax` would say 0."""
    images = 0.9 * torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[35:37, 0, 0, 0] = 0.99
    network = NotANumberIfBright().eval()
    labels = network(images).argmax(1)
    labels[36] = 1
    settings = AttackSettings("attack", Spec("fgsm", {}), "linf", (0.01,))
    result = evaluate(network, images, labels, settings, identity=CellIdentity())
    rows = result.rows.to_pandas().iloc[35:37]
    assert list(rows["status"]) == ["error"] * 2
    assert list(rows["clean_prediction"]) == list(rows["adversarial_prediction"]) == [-1, -1]
    assert rows["epsilon"].isna().all()
    assert (rows["forwards"] == 0).all()
    problem = "the model's outputs for the image itself are not finite"
    assert result.errors == tuple(f"sample {index}: {problem}" for index in (35, 36))
