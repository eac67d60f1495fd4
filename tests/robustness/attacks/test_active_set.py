"""Finished samples that stay in the batches of a GPU: results and counts are those of batches without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from gauntlet.robustness.attacks.base import ascent
from gauntlet.robustness.attacks.base.ascent import ActiveSet, idle_share
from gauntlet.robustness.attacks.base.model import AttackModel
from tests.support.attack_problems import convolutional_problem

PROBLEM = convolutional_problem()
COLUMNS = ["epsilon", "status", "adversarial_prediction", "forwards", "backwards", "zero_gradients"]
COLUMNS += ["nonfinite_gradients", "l1", "l2", "linf", "adversarial_confidence"]


def test_finished_samples_stay_on_a_gpu_only() -> None:
    """On a CPU they leave at once."""
    assert idle_share(torch.device("cpu")) == 0
    assert 0 < idle_share(torch.device("cuda")) < 1


@pytest.mark.parametrize("share", [0.25, 1.0])
@pytest.mark.parametrize(
    ("name", "norm", "options"),
    [
        ("pgd", "linf", {"steps": 8, "restarts": 2, "targets": 2, "loss": ["cross_entropy", "margin"]}),
        ("pgd", "l2", {"steps": 8, "restarts": 2, "loss": ["dlr", "margin"]}),
        ("mi_fgsm", "l1", {"steps": 8}),
        ("apgd", "linf", {"steps": 10, "restarts": 2}),
        ("apgd", "l1", {"steps": 10, "targets": 2}),
        ("adaptive", "l2", {"steps": 4}),
    ],
)
def test_finished_samples_in_a_batch_change_nothing(
    name: str, norm: str, options: dict[str, Any], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and counts are the same; more samples are computed at once."""
    epsilons = {"l2": (0.1, 0.4), "linf": (0.02, 0.08), "l1": (0.3, 1.2)}[norm]
    passes: list[int] = []
    gradients = AttackModel.gradients

    def counted(self: AttackModel, x: Tensor, *arguments: Any, **named: Any) -> Any:
        passes.append(len(x))
        return gradients(self, x, *arguments, **named)

    monkeypatch.setattr(AttackModel, "gradients", counted)

    def rows() -> Any:
        passes.clear()
        result = PROBLEM.run(name, norm, epsilons, options=options, precision="float64")
        return result.rows.select(COLUMNS).to_pandas().round({"l1": 7, "l2": 7, "linf": 7, "adversarial_confidence": 6})

    expected, sizes = rows(), list(passes)
    monkeypatch.setattr(ascent, "idle_share", lambda _device: share)
    assert rows().equals(expected)
    assert len(passes) == len(sizes)
    assert sum(passes) > sum(sizes) if share == 1.0 else sum(passes) >= sum(sizes)
    assert len(set(passes)) <= len(set(sizes))


def test_rows_leave_once_more_than_the_share_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 samples two may be finished; the third makes all three leave, each with the point of its own step."""
    monkeypatch.setattr(ascent, "idle_share", lambda _device: 0.25)
    model = AttackModel(PROBLEM.network)
    model.start_counting(8)
    active = ActiveSet(model, torch.zeros(8, 1, 6, 6))

    def finished(*rows: int) -> Tensor:
        return torch.zeros(8, dtype=torch.bool).index_fill_(0, torch.tensor(rows, dtype=torch.int64), True)

    assert active.remove(None, torch.zeros(8, 1, 6, 6)) is None
    assert active.remove(finished(), torch.zeros(8, 1, 6, 6)) is None
    assert active.remove(finished(1, 4), torch.ones(8, 1, 6, 6)) is None
    with active.queries():
        model.logits(PROBLEM.images[:8])
        wrong = torch.eye(4)[(PROBLEM.labels[:8] + 1) % 4]  # logits of another class than the label
        adversarial = active.adversarial(wrong, PROBLEM.images[:8], PROBLEM.network(PROBLEM.images[:8]).argmax(1))
    assert adversarial is None or not adversarial.any()
    assert model.counts.totals["forwards"][[1, 4]].tolist() == [0, 0]
    rows = active.remove(finished(7), torch.full((8, 1, 6, 6), 2.0))
    assert rows is not None
    assert rows.tolist() == active.samples.tolist() == [0, 2, 3, 5, 6]
    x_adv, robust = active.finish(torch.full((5, 1, 6, 6), 3.0))
    assert x_adv[:, 0, 0, 0].tolist() == [3, 1, 3, 3, 1, 3, 3, 2]
    assert robust.tolist() == [0, 2, 3, 5, 6]
