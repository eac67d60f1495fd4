"""The choice of bfloat16: for attacks that use directions only, on fast devices, for networks that tolerate it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.device_errors import DeviceError
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.registry import ATTACKS, Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate, precision
from gauntlet.robustness.evaluation.precision import choose_precision

IMAGES = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(40, dtype=torch.int64)


class Saturating(nn.Module):
    """Logits behind a tanh whose slope is zero in bfloat16 and not in float32."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(36, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 36, generator=torch.Generator().manual_seed(1)))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return torch.tanh(self.scale * self.linear(x.flatten(1)))


def chosen(name: str, network: nn.Module, asked: str = "auto", draws: int = 1) -> str:
    plan = AttackSettings("a", Spec(name, {}), "linf", (0.1,), draws=draws)
    return choose_precision(asked, plan, network.eval(), IMAGES, LABELS, device=torch.device("cpu"))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every device as fast in bfloat16, so that the choice is the same on every machine."""
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: True)


def test_attacks_that_need_only_directions_run_in_bfloat16_where_gradients_agree() -> None:
    """A network whose gradients vanish in bfloat16 stays in float32."""
    assert chosen("pgd", Saturating(0.01)) == "bfloat16"
    assert chosen("pgd", Saturating(3.0)) == "float32"


@pytest.mark.parametrize(("scale", "expected"), [(0.01, "bfloat16"), (3.0, "float32")])
def test_an_evaluation_states_the_precision_that_it_chose(scale: float, expected: str) -> None:
    """The chosen precision is part of the result."""
    network, plan = Saturating(scale).eval(), AttackSettings("a", Spec("pgd", {"steps": 5}), "linf", (0.1,))
    labels = network(IMAGES).argmax(1)
    assert evaluate(network, IMAGES, labels, plan, identity=CellIdentity()).precision == expected


@pytest.mark.parametrize("name", ATTACKS.names())
def test_attacks_that_compare_values_stay_in_float32(name: str) -> None:
    """Score differences, line searches and distances need more than eight bits."""
    tags = ATTACKS.entry(name).tags
    tolerant = tags.get("directions_only", False)
    assert (chosen(name, Saturating(0.01)) == "bfloat16") is tolerant
    if tolerant:
        assert (tags["access"], tags["kind"]) == ("gradient", "bounded")


def test_an_attack_on_the_training_loss_stays_in_float32() -> None:
    """Raw outputs may saturate where logits do not, so gradients of the logits say nothing about them."""
    for loss, expected in (("margin", "bfloat16"), ("training", "float32"), (["margin", "training"], "float32")):
        plan = AttackSettings("a", Spec("pgd", {"loss": loss}), "linf", (0.1,))
        found = choose_precision("auto", plan, Saturating(0.01).eval(), IMAGES, LABELS, device=torch.device("cpu"))
        assert found == expected


def test_what_no_later_step_makes_up_for_stays_in_float32() -> None:
    """The rounding of a single step, and of the last point of a transfer, decides success."""
    network, device = Saturating(0.01).eval(), torch.device("cpu")
    for options, transfers in (({"steps": 4}, False), ({"steps": 40}, True)):
        plan = AttackSettings("a", Spec("pgd", options), "linf", (0.1,))
        found = choose_precision("auto", plan, network, IMAGES, LABELS, device=device, transfers=transfers)
        assert found == "float32"


class Failing(nn.Module):
    """Logits of a network that raises an error for batches above `most`, or only in bfloat16."""

    def __init__(self, error: Exception, most: int = 0, *, bfloat16: bool = False) -> None:
        super().__init__()
        self.network, self.error, self.most, self.bfloat16 = Saturating(0.01), error, most, bfloat16

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        if len(x) > self.most and (not self.bfloat16 or torch.is_autocast_enabled("cpu")):
            raise self.error
        logits: Tensor = self.network(x)
        return logits


OUT_OF_MEMORY = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]


@pytest.mark.parametrize("steps", [None, "many", [1]])
def test_a_users_attack_may_mean_anything_by_steps(steps: object) -> None:
    """An option that is no number of steps does not end an evaluation."""
    assert not AttackSettings("a", Spec("pgd", {"steps": steps}), "linf", (0.1,)).has_few_steps


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_memory_does_not_change_the_choice(error: Exception) -> None:
    """With short memory fewer images are computed at a time; with too little the choice is not made."""
    assert chosen("pgd", Failing(error, 8)) == "bfloat16"
    with pytest.raises(GauntletError, match="out of memory"):
        chosen("pgd", Failing(error, bfloat16=True))


def test_a_failed_kernel_is_no_disagreement() -> None:
    """The device is lost; any other refusal of bfloat16 leaves float32."""
    with pytest.raises(DeviceError, match="device-side assert"):
        chosen("pgd", Failing(RuntimeError("CUDA error: device-side assert triggered"), bfloat16=True))
    for error in (RuntimeError("no bfloat16"), TypeError("no bfloat16"), InputError("no bfloat16")):
        assert chosen("pgd", Failing(error, bfloat16=True)) == "float32"


def test_a_requested_precision_is_used() -> None:
    """A random model, whose gradients differ anyway, is not tested."""
    assert chosen("pgd", Saturating(3.0), "bfloat16") == "bfloat16"
    assert chosen("pgd", Saturating(0.01), "float32") == "float32"
    assert chosen("pgd", Saturating(0.01), draws=2) == "float32"


def test_a_device_without_units_for_it_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emulated bfloat16 is slower than float32."""
    monkeypatch.setattr(precision, "has_bfloat16_units", lambda device: False)
    assert chosen("pgd", Saturating(0.01)) == "float32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, True),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_bfloat16_units_are_those_that_the_processor_reports(capabilities: dict[str, bool], expected: bool) -> None:
    """Tiles, or vector products alone; other vector instructions emulate bfloat16."""
    assert precision.multiplies_bfloat16(capabilities) is expected
