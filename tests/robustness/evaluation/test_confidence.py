"""The confidence of a model: its softmax probability, or its largest sigmoid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gauntlet.learning.models.build import build
from gauntlet.learning.models.network import Network
from gauntlet.registry import Spec
from gauntlet.robustness.attacks.base.model import AttackModel
from gauntlet.robustness.attacks.max_confidence import _score
from gauntlet.robustness.certificates.certifier import certify
from gauntlet.robustness.evaluation import AttackSettings, CellIdentity, evaluate
from gauntlet.robustness.judge import Judge, class_probabilities

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 10


def network(head: str, *, bias: float = 0.0) -> Network:
    """Return a network with all logits shifted by `bias`, which the softmax does not change."""
    spec = Spec("mnist_cnn", {"widths": [2, 3], "head": {"name": head}})
    built = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,)).eval()
    with torch.no_grad():
        for parameter in built.head.parameters():
            if parameter.dim() == 1:
                parameter += bias
    return built


def rows(model: nn.Module, name: str = "uniform_noise") -> tuple[np.ndarray, np.ndarray, Tensor]:
    """Return confidences on clean and attacked images, and the clean logits."""
    plan = AttackSettings(name=name, spec=Spec(name), norm="linf", epsilons=(0.5,))
    table = evaluate(model, IMAGES, LABELS, plan, identity=CellIdentity(), keep_examples=0).rows
    with torch.no_grad():
        logits = model(IMAGES)
    return table["clean_confidence"].to_numpy(), table["adversarial_confidence"].to_numpy(), logits


@pytest.mark.parametrize("head", ["softmax", "ecc"])
def test_confidence_is_the_largest_softmax_probability(head: str) -> None:
    """This holds for our networks and for any module."""
    model = network(head)
    clean, attacked, logits = rows(model)
    assert clean == pytest.approx(logits.softmax(1).amax(1).numpy())
    assert rows(nn.Sequential(model).eval())[0] == pytest.approx(clean)
    assert (attacked > 0.1).all()


def test_confidence_of_a_sigmoid_output_is_its_largest_sigmoid() -> None:
    """If every class is improbable, the confidence is low; a softmax of ten classes is at least 0.1."""
    model = network("sigmoid", bias=-8.0)
    clean, attacked, logits = rows(model)
    assert clean == pytest.approx(logits.sigmoid().amax(1).numpy())
    assert (clean < 0.1).all()
    assert (attacked < 0.1).all()


def test_noise_on_which_every_class_is_off_has_little_confidence() -> None:
    """The share of rubbish images below 0.5 is the accuracy on noise."""
    _, unsure, _ = rows(network("sigmoid", bias=-8.0), "rubbish")
    _, sure, _ = rows(network("sigmoid", bias=8.0), "rubbish")
    assert (unsure < 0.5).all()
    assert (sure > 0.5).all()


def test_max_confidence_scores_by_sigmoids() -> None:
    """The score is the wrong class's sigmoid, minus the label's if the prediction is right."""
    model = network("sigmoid", bias=-3.0)
    attacked = AttackModel(model, device="cpu")
    attacked.start_counting(len(IMAGES))
    with torch.no_grad():
        logits = model(IMAGES)
    answers, sigmoids = logits.argmax(1), logits.sigmoid()
    wrong = (answers + 1) % 10
    assert torch.allclose(_score(attacked, IMAGES, wrong), sigmoids.amax(1))
    assert torch.allclose(_score(attacked, IMAGES, answers), -sigmoids.amax(1))


def test_mean_logits_of_several_draws_are_softmax_logits() -> None:
    """With `draws` the judge returns logarithms of mean probabilities, and the confidence is the largest."""
    model = network("sigmoid", bias=-8.0)
    judge = Judge(model, device=torch.device("cpu"), draws=3)
    logits = judge.logits(IMAGES)
    assert torch.allclose(judge.confidence(logits), logits.exp().amax(1), atol=1e-5)


def test_a_users_method_of_the_same_name_is_not_called() -> None:
    """A user's module may define `probabilities` with another meaning."""

    class Unrelated(nn.Module):
        def probabilities(self, images: Tensor) -> Tensor:
            raise AssertionError(images)

    assert class_probabilities(Unrelated(), torch.zeros(1, 4)).tolist() == [[0.25] * 4]


def test_certificates_have_the_same_confidence() -> None:
    """A certificate of the model itself has the softmax probability as confidence."""
    spec = Spec("lipschitz_cnn", {"widths": [2, 2], "hidden": 4})
    model = build(spec, image_shape=(1, 8, 8), num_classes=10, mean=(0.3,), std=(0.4,)).eval().export()
    table = certify(model, IMAGES, LABELS, Spec("lipschitz"), name="c", norm="l2", identity=CellIdentity())
    with torch.no_grad():
        expected = model(IMAGES).softmax(1).amax(1)
    assert table["clean_confidence"].to_numpy() == pytest.approx(expected.numpy())
