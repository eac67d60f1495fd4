"""`gauntlet.evaluate`: the rows of the pipeline for tensors and arrays, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gauntlet.api import evaluate
from gauntlet.core.errors import GauntletError, InputError
from gauntlet.registry import Spec
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity
from gauntlet.robustness.evaluation import evaluate as engine

BYTES = torch.randint(256, (12, 1, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = BYTES.float() / 255
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(25, 3)).eval()
with torch.no_grad():
    NETWORK[1].weight.copy_(torch.randn(3, 25, generator=torch.Generator().manual_seed(1)))
    NETWORK[1].bias.zero_()
    LABELS = NETWORK(IMAGES).argmax(1)
PGD = {"name": "pgd", "norm": "linf", "epsilons": [0.02, 0.1], "steps": 7}


def test_its_rows_equal_those_of_the_evaluator() -> None:
    """The same model, images, attack and seed give the same rows."""
    options = {"steps": 7, "step_size": None, "restarts": 1, "loss": "cross_entropy"}
    plan = AttackSettings("pgd", Spec("pgd", options), "linf", (0.02, 0.1))
    expected = engine(NETWORK, IMAGES, LABELS, plan, identity=CellIdentity("e", "v", 4)).rows
    assert evaluate(NETWORK, IMAGES, LABELS, PGD, seed=4, experiment="e", variant="v").equals(expected)
    assert not evaluate(NETWORK, IMAGES, LABELS, PGD, seed=5, experiment="e", variant="v").equals(expected)


def test_an_attack_on_fewer_samples_has_the_rows_of_the_first_images() -> None:
    """They are those of a call with these images; more than there are is refused at the key."""
    few = evaluate(NETWORK, IMAGES, LABELS, {**PGD, "samples": 3})
    assert few.equals(evaluate(NETWORK, IMAGES[:3], LABELS[:3], PGD))
    assert len(few) == 3
    assert evaluate(NETWORK, IMAGES, LABELS, {**PGD, "samples": len(IMAGES)}).equals(
        evaluate(NETWORK, IMAGES, LABELS, PGD)
    )
    with pytest.raises(InputError, match=rf"attack.samples: 99999 is more than the {len(IMAGES)} images"):
        evaluate(NETWORK, IMAGES, LABELS, {**PGD, "samples": 99999})
    with pytest.raises(InputError, match="labels"):
        evaluate(NETWORK, IMAGES, LABELS[:-1], {**PGD, "samples": 3})


def test_it_takes_tensors_arrays_and_bytes() -> None:
    """uint8 and float, torch and numpy give the same rows; inputs and model are unchanged."""
    expected = evaluate(NETWORK, IMAGES, LABELS, PGD)
    before = IMAGES.clone()
    for images, labels in (
        (BYTES, LABELS),
        (BYTES.numpy(), LABELS.numpy().astype(np.int32)),
        (IMAGES.numpy().astype(np.float64), LABELS.tolist()),
    ):
        assert evaluate(NETWORK, images, labels, PGD).equals(expected)
    assert torch.equal(before, IMAGES)
    assert all(parameter.requires_grad for parameter in NETWORK.parameters())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "pdg"}, "did you mean 'pgd'"),
        ({"stepps": 3}, "did you mean 'steps'"),
        ({"steps": -1}, "attack.steps"),
        ({"norm": "l7"}, "attack.norm"),
        ({"norm": "l0"}, "does not work in 'l0'; it works in linf, l2, l1"),
        ({"epsilons": None}, "needs a list of budgets"),
        ({"epsilons": [float("nan")]}, "attack.epsilons"),
        ({"epsilons": [-0.1]}, "attack.epsilons"),
    ],
)
def test_an_attack_is_validated_as_in_a_configuration(change: dict[str, Any], complaint: str) -> None:
    """Unknown names and options, values out of range and missing norms are refused in one line with their path."""
    with pytest.raises(InputError, match=complaint):
        evaluate(NETWORK, IMAGES, LABELS, {**PGD, **change})


def test_other_wrong_input_is_refused() -> None:
    """Objects that are no model or array, and images of other integer types, are refused."""
    with pytest.raises(InputError, match="the model is a function; pass a torch"):
        evaluate(lambda x: x, IMAGES, LABELS, PGD)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"images are torch\.int64"):
        evaluate(NETWORK, BYTES.long(), LABELS, PGD)
    with pytest.raises(InputError, match="images"):
        evaluate(NETWORK, "cat.png", LABELS, PGD)  # type: ignore[arg-type]


def test_rows_with_errors_come_with_a_warning() -> None:
    """Rows of an attack that breaks its constraints are marked as errors, with a warning."""
    attack = {"name": "tests.support.cheating_attacks:outside_ball", "norm": "linf", "epsilons": [0.1]}
    with pytest.warns(UserWarning, match="sample 0"):
        rows = evaluate(NETWORK, IMAGES, LABELS, attack)
    assert rows["status"].to_pylist()[0] == "error"


@pytest.mark.parametrize(
    "settings", [{"batch_size": 0}, {"batch_size": -4}, {"seed": -1}, {"seed": "a"}, {"precision": "fp99"}], ids=str
)
def test_invalid_settings_are_refused(settings):
    """An invalid batch size, seed or precision is refused in one line."""
    attack = {"name": "pgd", "norm": "linf", "epsilons": [0.1]}
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
    with pytest.raises(InputError, match=r"batch size|seed|precision"):
        evaluate(model, torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64), attack, **settings)


def test_images_slightly_outside_the_box_are_clipped_with_a_warning() -> None:
    """Rounding errors are clipped with a warning; larger violations are refused."""
    images = IMAGES.clone()
    images[0, 0, 0, 0] = 1 + 2e-7
    with pytest.warns(UserWarning, match="outside .0, 1. and are clipped"):
        rows = evaluate(NETWORK, images, LABELS, PGD)
    assert rows.equals(evaluate(NETWORK, images.clamp(0, 1), LABELS, PGD))
    images[0, 0, 0, 0] = 1.001
    with pytest.raises(InputError, match="images lie in"):
        evaluate(NETWORK, images, LABELS, PGD)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"images": IMAGES.permute(0, 2, 3, 1)}, r"cannot classify .* 5x5x1.*images\.permute\(0, 3, 1, 2\)"),
        ({"images": IMAGES.repeat(1, 3, 1, 1)}, "cannot classify .* 3x5x5"),
        ({"images": IMAGES[:, :, :4]}, "cannot classify .* 1x4x5"),
        ({"images": IMAGES[:, :0]}, "images have shape"),
        ({"images": IMAGES.to_sparse()}, "images are a sparse"),
        ({"images": IMAGES.to(torch.complex64)}, "images are torch.complex64"),
        ({"labels": LABELS.to(torch.complex64)}, "labels are torch.complex64"),
        ({"labels": None}, "labels are a NoneType"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99' here"),
        ({"device": "mps"}, "device 'mps' is not supported"),
        ({"device": "toaster"}, "there is no device 'toaster' here"),
        ({"device": "meta"}, "there is no device 'meta' here"),
        ({"device": 3.5}, "there is no device '3.5' here"),
        ({"sources": "vgg"}, "a source is a str"),
        ({"sources": [None]}, "a source is a NoneType"),
        ({"sources": nn.Sequential(nn.Flatten(), nn.Linear(25, 7)).eval()}, "a source has 7 classes.*attacked model 3"),
        ({"sources": nn.Sequential(nn.Flatten(), nn.Linear(25, 2)).eval()}, "a source has 2 classes.*attacked model 3"),
        ({"sources": nn.Sequential(nn.Flatten(), nn.Linear(25, 3))}, r"sources\[0\]: the model is in train mode"),
        (
            {"sources": [NETWORK, nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval()]},
            r"sources\[1\]: .* cannot classify",
        ),
        ({"labels": np.ma.masked_array(LABELS.numpy(), np.arange(len(LABELS)) == 0)}, "labels have masked entries"),
        ({"labels": np.array(["a"] * len(LABELS))}, "labels are a ndarray that is no array of numbers"),
        ({"experiment": None}, "experiment is a NoneType"),
        ({"variant": ["a"]}, "variant is a list"),
        ({"name": 5}, "name is a int"),
        ({"batch_size": True}, "batch size"),
        ({"seed": True}, "seed"),
        ({"precision": ["float32"]}, "unknown precision"),
    ],
)
def test_wrong_input_is_never_a_traceback_of_torch(change: dict[str, Any], complaint: str) -> None:
    """Channels last, other sizes, missing devices and other types are refused in one line."""
    network = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(32, 3)).eval()
    arguments = {"model": network, "images": IMAGES, "labels": LABELS, "attack": PGD, **change}
    with pytest.raises(InputError, match=complaint) as caught:
        evaluate(**arguments)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_torch_are_numbers() -> None:
    """In the attack's options, the seed and the batch size."""
    expected = evaluate(NETWORK, IMAGES, LABELS, PGD, seed=3, batch_size=5)
    attack = {**PGD, "epsilons": np.array([0.02, 0.1]), "steps": np.int64(7)}
    assert evaluate(NETWORK, IMAGES, LABELS, attack, seed=np.int64(3), batch_size=np.int32(5)).equals(expected)
    attack = {**PGD, "epsilons": [np.float64(0.02), torch.tensor(0.1, dtype=torch.float64)], "steps": torch.tensor(7)}
    assert evaluate(NETWORK, IMAGES, LABELS, attack, seed=np.uint8(3), batch_size=5).equals(expected)


def test_settings_of_the_caller_change_nothing() -> None:
    """Inference mode, no gradients, autocast, another default type: the same rows, and the settings stay."""
    expected = evaluate(NETWORK, IMAGES, LABELS, PGD)
    with torch.inference_mode():
        assert evaluate(NETWORK, IMAGES + 0, LABELS + 0, PGD).equals(expected)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert evaluate(NETWORK, IMAGES, LABELS, PGD).equals(expected)
        assert torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
    torch.set_default_dtype(torch.float64)
    try:
        assert evaluate(NETWORK, IMAGES, LABELS, PGD).equals(expected)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_arrays_in_any_layout_are_taken() -> None:
    """Views with negative steps, read-only and Fortran-ordered arrays."""
    images, labels = IMAGES.numpy(), LABELS.numpy()
    expected = evaluate(NETWORK, images[::-1].copy(), labels[::-1].copy(), PGD)
    frozen = np.asfortranarray(images[::-1])
    frozen.flags.writeable = False
    assert evaluate(NETWORK, images[::-1], labels[::-1], PGD).equals(expected)
    assert evaluate(NETWORK, frozen, labels[::-1], PGD).equals(expected)
    swapped, objects = images[::-1].astype(">f4"), labels[::-1].astype(object)
    assert evaluate(NETWORK, swapped, objects, PGD).equals(expected)
    assert evaluate(NETWORK, swapped, labels[::-1].astype(">i8"), PGD).equals(expected)


def test_the_kernels_that_the_caller_chose_stay_chosen():
    """Deterministic ones or not; an operation that has none is named, and not taken for a fault of the model."""
    images, labels = torch.rand(4, 1, 4, 4), torch.arange(4)
    linear, attack = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)).eval(), PGD
    torch.backends.cudnn.benchmark = True
    for mode in (0, 1, 2):
        torch.set_deterministic_debug_mode(mode)
        evaluate(linear, images, labels, attack)
        assert torch.get_deterministic_debug_mode() == mode
        assert torch.backends.cudnn.benchmark

    class Unpooling(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pool, self.unpool = torch.nn.MaxPool2d(2, return_indices=True), torch.nn.MaxUnpool2d(2)

        def forward(self, x):
            return linear(self.unpool(*self.pool(x)))

    with pytest.raises(GauntletError, match=r"in layer unpool \(MaxUnpool2d\) has no deterministic kernel"):
        evaluate(Unpooling().eval(), images, labels, attack)
