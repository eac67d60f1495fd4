"""Checks before an attack: models, images and labels that would give wrong numbers are refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gauntlet.core.errors import GauntletError, InputError
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate
from gauntlet.robustness.evaluation.verification import check_gradients

IMAGES = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Wrapped(nn.Module):
    """Linear model whose logits are altered by `change`; `surrogates` returns the original ones."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(3, 16, generator=torch.Generator().manual_seed(1)))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.change(self.linear(x.flatten(1)))

    @property
    def surrogates(self) -> dict[str, Any]:
        """Return the surrogates by name."""
        return {"logits": self.forward, "unspoilt": lambda x: self.linear(x.flatten(1))}


def attack(network: nn.Module, *, name: str = "fgsm", images: Tensor = IMAGES, labels: Tensor = LABELS) -> None:
    options = {"loss": "cross_entropy"} if name == "fgsm" else {"draws": 2}
    evaluate(network, images, labels, AttackSettings("a", Spec(name, options), "linf", (0.1,)), identity=CellIdentity())


def fading(logits: Tensor) -> Tensor:
    """Square roots of zero: finite values, infinite gradients."""
    return logits + (logits.detach() - logits).abs().sqrt()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda z: z.softmax(1), "returns probabilities; return logits"),
        (lambda z: z * torch.nan, "outputs are not finite"),
        (lambda z: z + torch.rand(z.shape), "outputs differ between two passes"),
        (lambda z: z[:, None], r"returns \(8, 1, 3\) for 8 images"),
        (lambda z: z[:, :1], r"returns \(8, 1\) for 8 images"),
        (lambda z: z.argmax(1), r"returns \(8,\) for 8 images"),
        (lambda z: z[:, :2], r"labels lie in \[0, 2\] but the model has 2 classes"),
        (lambda z: z.detach(), "has no gradient.*surrogate: unspoilt"),
        (lambda z: z.detach() + 0 * z, "gradient is zero on all of 6 images.*surrogate: unspoilt"),
        (fading, "gradient is not finite on all of 6 images"),
    ],
)
def test_a_model_that_gives_wrong_numbers_is_refused(change: Any, complaint: str) -> None:
    """Probabilities, NaN, randomness, wrong shapes, and missing, zero or NaN gradients are refused."""
    with pytest.raises(InputError, match=complaint):
        attack(Wrapped(change).eval())


def test_gradients_are_checked_only_if_the_attack_needs_them() -> None:
    """A black-box attack runs on a model without gradients."""
    attack(Wrapped(lambda z: z.detach()).eval(), name="gaussian_noise")


@pytest.mark.parametrize("fits", [6, 3, 1])
def test_out_of_memory_in_a_check_is_no_missing_gradient(monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    """The check repeats with fewer images, and neither refuses nor flags the model."""
    real = AttackModel.gradients

    def gradients(self: AttackModel, x: Tensor, *arguments: Any) -> Any:
        if len(x) > fits:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, x, *arguments)

    monkeypatch.setattr(AttackModel, "gradients", gradients)
    model = AttackModel(Wrapped(lambda z: z).eval(), device=torch.device("cpu"))
    check_gradients(model, IMAGES)
    with pytest.raises(InputError, match="has no gradient"):
        check_gradients(AttackModel(Wrapped(lambda z: z.detach()).eval(), device=torch.device("cpu")), IMAGES)


def test_memory_too_small_for_one_image_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error blames the device, not the input."""

    def gradients(self: AttackModel, x: Tensor, *arguments: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(AttackModel, "gradients", gradients)
    with pytest.raises(GauntletError, match="out of memory with one image"):
        check_gradients(AttackModel(Wrapped(lambda z: z).eval(), device=torch.device("cpu")), IMAGES)


def test_a_single_layer_in_train_mode_is_refused() -> None:
    """The message names the layer and the call to make."""
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).eval()
    network[1].train()
    with pytest.raises(InputError, match=r"train mode \(1\); call model.eval\(\) first"):
        attack(network)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (IMAGES * 255, LABELS, r"images lie in \[.*\], not in \[0, 1\]; divide 8-bit images by 255"),
        (IMAGES - 0.1, LABELS, r"not in \[0, 1\]"),
        (IMAGES * torch.nan, LABELS, r"not in \[0, 1\]"),
        (IMAGES[:0], LABELS[:0], "N >= 1"),
        (IMAGES[0], LABELS[:1], r"images have shape \(1, 4, 4\)"),
        (IMAGES, LABELS[:5], "give 6 integers, one per image"),
        (IMAGES, LABELS.float(), "labels are torch.float32"),
        (IMAGES, LABELS - 1, r"labels lie in \[-1, 1\] but the model has 3 classes"),
    ],
)
def test_images_and_labels_are_checked(images: Tensor, labels: Tensor, complaint: str) -> None:
    """Images out of the box, empty or misshapen, and labels without a class are refused."""
    with pytest.raises(InputError, match=complaint):
        attack(Wrapped(lambda z: z).eval(), images=images, labels=labels)
