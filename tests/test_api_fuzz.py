"""`gauntlet.evaluate` under random networks, images, labels and attacks: the same rows each time, or one line."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import gauntlet
from gauntlet.core.errors import AttackError, InputError

Change = Callable[[Any, Tensor], Any]

SOUND: dict[str, Change] = {
    "plain": lambda n, x: n.layers(x),
    "writes into its input": lambda n, x: n.layers(x.clamp_(0.1, 0.7)),
    "float16 logits": lambda n, x: n.layers(x).half(),
    "bfloat16 logits": lambda n, x: n.layers(x).bfloat16(),
    "float64 logits": lambda n, x: n.layers(x).double(),
    "small logits": lambda n, x: 1e-4 * n.layers(x),
    "large logits": lambda n, x: 1e4 * n.layers(x),
    "views": lambda n, x: n.layers(x.flip(3).transpose(2, 3).transpose(2, 3)),
    "normalization": lambda n, x: n.layers((x - 0.4) / 0.2),
}
"""Networks with sound results."""

UNSOUND: dict[str, Change] = {
    "batch mean": lambda n, x: n.layers(x - x.mean(0, keepdim=True)) + 1e-3 * len(x),
    "position": lambda n, x: n.layers(x) + 1e-3 * torch.arange(len(x))[:, None] * torch.arange(n.classes),
    "size of the batch": lambda n, x: n.layers(x) * (1 + 1e-3 * len(x)),
    "first image": lambda n, x: n.layers(x) + n.layers(x[:1] * 0.5),
    "batch statistics": lambda n, x: nn.functional.batch_norm(n.layers(x), None, None, training=len(x) > 1),
    "counter": lambda n, x: n.layers(x) * n.count(),
    "state": lambda n, x: n.layers(x) + 0 * n.seen.add_(1),
    "noise": lambda n, x: n.layers(x) + torch.randn(len(x), n.classes),
    "noise of NumPy": lambda n, x: n.layers(x) + float(np.random.randn()) * torch.arange(n.classes),
    "probabilities": lambda n, x: n.layers(x).softmax(1),
    "integers": lambda n, x: (100 * n.layers(x)).long(),
    "complex": lambda n, x: n.layers(x).to(torch.complex64),
    "tuple": lambda n, x: (n.layers(x), x),
    "None": lambda n, x: None,
    "NaN": lambda n, x: n.layers(x) * torch.nan,
    "one row": lambda n, x: n.layers(x)[:1],
    "one column": lambda n, x: n.layers(x)[:, :1],
    "fixed batch": lambda n, x: n.layers(x.view(3, *x.shape[1:])),
    "raises": lambda n, x: n.missing(x),
}
"""Networks that no row follows from."""

ATTACKS: list[dict[str, Any]] = [
    {"name": "fgsm", "norm": "linf", "epsilons": [0.05, 0.2]},
    {"name": "pgd", "norm": "linf", "epsilons": [0.1], "steps": 3},
    {"name": "pgd", "norm": "l2", "epsilons": [0.05, 0.3], "steps": 2, "restarts": 2},
    {"name": "apgd", "norm": "linf", "epsilons": [0.1], "steps": 4},
    {"name": "square", "norm": "linf", "epsilons": [0.1], "queries": 6},
    {"name": "gaussian_noise", "norm": "l2", "epsilons": [0.5]},
    {"name": "fab", "norm": "l2", "steps": 3},
    {"name": "spsa", "norm": "linf", "epsilons": [0.1], "steps": 2, "step_size": 0.05, "pairs": 2},
    {"name": "adaptive", "norm": "linf", "epsilons": [0.1], "steps": 2},
    {"name": "foolbox:DDNAttack", "norm": "l2", "steps": 3},
    {"name": "foolbox:LinfPGD", "norm": "linf", "epsilons": [0.1], "steps": 3},
]

WRONG_ATTACKS: list[Any] = [
    None,
    3,
    "no_such_attack",
    {},
    {"name": "pgd", "norm": "linf"},
    {"name": "pgd", "norm": "linf", "epsilons": []},
    {"name": "pgd", "norm": "linf", "epsilons": [float("nan")]},
    {"name": "pgd", "norm": "linf", "epsilons": [0.1], "steps": 0},
    {"name": "pgd", "norm": "linf", "epsilons": [0.1], "stepps": 3},
    {"name": "pgd", "norm": "l2", "epsilons": "0.1"},
    {"name": "pgd", "norm": 2, "epsilons": [0.1]},
    {"name": "fgsm", "norm": "linf", "epsilons": [0.1], "surrogate": "none_such"},
    {"name": "math:sin", "norm": "linf", "epsilons": [0.1]},
]


class Network(nn.Module):
    """Few layers with weights of a seed, and outputs that `change` makes of them."""

    def __init__(self, shape: tuple[int, int, int], classes: int, kind: str, change: Change, seed: int) -> None:
        super().__init__()
        self.classes, self.change, self.passes = classes, change, 0
        size = shape[0] * shape[1] * shape[2]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if kind == "linear":
                self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
            elif kind == "hidden":
                self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, 5), nn.Tanh(), nn.Linear(5, classes))
            else:
                convolution = nn.Conv2d(shape[0], 3, 3, padding=1)
                norm = nn.BatchNorm2d(3) if kind == "normalized" else nn.Identity()
                self.layers = nn.Sequential(
                    convolution, norm, nn.ReLU(), nn.Flatten(), nn.Linear(3 * shape[1] * shape[2], classes)
                )
        self.register_buffer("seen", torch.zeros(1))
        self.eval()

    def count(self) -> float:
        """Count the passes; return a factor."""
        self.passes += 1
        return 1 + 0.01 * self.passes

    def forward(self, x: Tensor) -> Any:
        """Map images to what `change` makes of them."""
        return self.change(self, x)


@dataclass(frozen=True)
class Case:
    """The arguments of an evaluation, and what is wrong with them."""

    network: Network
    images: Tensor
    labels: Tensor
    attack: Any
    wrong: str


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw the arguments; half of the time one of them is wrong."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    classes, count, seed = draw(st.integers(2, 5)), draw(st.integers(1, 9)), draw(st.integers(0, 10**6))
    wrong = draw(st.sampled_from(["", "", "", "network", "network", "images", "labels", "attack"]))
    name = draw(st.sampled_from(sorted(UNSOUND if wrong == "network" else SOUND)))
    kind = draw(st.sampled_from(["linear", "hidden", "convolution", "normalized"]))
    network = Network(shape, classes, kind, {**SOUND, **UNSOUND}[name], seed)
    values = torch.Generator().manual_seed(seed)
    images = torch.rand((count, *shape), generator=values)
    labels = torch.randint(classes, (count,), generator=values)
    if wrong != "network":
        # Attacks skip images that are misclassified, so most are not.
        with torch.no_grad():
            own = network(images.clone()).argmax(1)
        labels = torch.where(torch.rand(count, generator=values) < 0.8, own, labels)
    attack = draw(st.sampled_from(ATTACKS))
    if wrong == "images":
        images = draw(
            st.sampled_from(
                [images * 255, images - 2, images * torch.nan, images[:0], images[0], images.long(), images[..., :0]]
            )
        )
    if wrong == "labels":
        labels = draw(
            st.sampled_from(
                [labels + classes, labels - classes, labels.float(), labels[:-1], labels[:, None], labels > 0]
            )
        )
    if wrong == "attack":
        attack = draw(st.sampled_from(WRONG_ATTACKS))
    return Case(network, images, labels, attack, f"{wrong} {name}" if wrong else "")


def outcome(case: Case, **options: Any) -> pa.Table | str:
    """Return the rows of an evaluation or its refusal, and check that it changes nothing."""
    images, labels = case.images.clone(), case.labels.clone()
    state = copy.deepcopy(case.network.state_dict())
    generators = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found: pa.Table | str = gauntlet.evaluate(case.network, images, labels, case.attack, **options)
    except (InputError, AttackError) as error:
        found = str(error)
    assert found
    assert torch.equal(torch.nan_to_num(images), torch.nan_to_num(case.images))
    assert torch.equal(labels, case.labels)
    assert all(torch.equal(value, state[key]) for key, value in case.network.state_dict().items())
    assert "noise" in case.wrong or torch.equal(torch.get_rng_state(), generators[0])
    assert "NumPy" in case.wrong or np.random.get_state()[1].tobytes() == generators[1]
    return found


def check(case: Case) -> None:
    """Check one case: refused if something is wrong, else the same rows for each batch size and order."""
    found = outcome(case)
    if case.wrong:
        assert isinstance(found, str), case.wrong
        return
    if isinstance(found, str):
        # All units of a small network may be inactive at all images: the one sound case without rows.
        assert found.startswith("the model's gradient is zero on all"), found
        return
    count = len(case.images)
    assert found["index"].to_pylist() == list(range(count))
    assert "error" not in found["status"].to_pylist()
    for batch_size in (1, 2, 7):
        _check_equal(found, outcome(case, batch_size=batch_size), list(range(count)))
    backwards = Case(case.network, case.images.flip(0), case.labels.flip(0), case.attack, "")
    _check_equal(found, outcome(backwards, batch_size=3), list(range(count))[::-1])


def _check_equal(first: pa.Table, second: pa.Table | str, order: list[int]) -> None:
    """Check that rows are equal, numbers up to rounding."""
    assert not isinstance(second, str), second
    second = second.take(order)
    for column in ("label", "sample_hash", "clean_prediction", "status", "adversarial_prediction"):
        assert first[column].to_pylist() == second[column].to_pylist(), column
    for column in ("epsilon", "linf", "l2", "clean_confidence"):
        values = [np.array(table[column].to_pylist(), dtype=float) for table in (first, second)]
        assert np.allclose(*values, rtol=1e-3, atol=1e-4, equal_nan=True), column


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=12, **QUIET)
@given(cases())
def test_the_same_rows_or_a_refusal(case: Case) -> None:
    """A few cases, the same ones each time."""
    check(case)


@pytest.mark.slow
@settings(max_examples=600, **QUIET)
@given(cases())
def test_the_same_rows_or_a_refusal_in_many_cases(case: Case) -> None:
    """Six hundred cases."""
    check(case)
